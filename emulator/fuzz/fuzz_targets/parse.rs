//! Any bytes as PTX: an error or a module, in bounded time and memory.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tilewright_emulator::Module;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Module::parse(text);
    }
});
