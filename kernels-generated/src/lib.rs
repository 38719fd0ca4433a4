//! The generated kernels, embedded for servers
