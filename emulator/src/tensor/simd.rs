//! Compiling a loop for the vector units of the CPU it runs on.

/// Declares a function whose body is compiled twice, for AVX2 with FMA and for any CPU, and that runs the one that fits.
/// Results are the same: Rust neither reorders nor fuses floating-point operations, and `mul_add` is exact everywhere.
///
/// A call in the body takes part only if it is `#[inline(always)]`.
macro_rules! vectorised {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) {
            #[inline(always)]
            fn portable($($arg: $ty),*) $body
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                #[target_feature(enable = "avx2,fma")]
                fn wide($($arg: $ty),*) {
                    portable($($arg),*)
                }
                // SAFETY: the features that `wide` is compiled for were detected on the line above.
                return unsafe { wide($($arg),*) };
            }
            portable($($arg),*)
        }
    };
}

pub(super) use vectorised;
