//! Manifest, plans, dispatch and launch: what a server links
