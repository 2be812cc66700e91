//! The program that libFuzzer drives. Which target it runs stands in `FUZZ_TARGET`; its arguments are libFuzzer's.
#![no_main]

use std::sync::OnceLock;

use fuzz::Target;

/// For the report of a stack that has run over, which needs one of its own.
const SIGNAL_STACK_BYTES: usize = 256 << 10;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    static TARGET: OnceLock<&Target> = OnceLock::new();
    let target = TARGET.get_or_init(|| {
        use_signal_stack();
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        fuzz::target(&name).unwrap_or_else(|| panic!("FUZZ_TARGET={name} is none of fuzz::TARGETS"))
    });
    (target.run)(bytes);
});

/// Has signals handled on another stack. It lasts as long as the process.
fn use_signal_stack() {
    let stack = Vec::leak(vec![0_u8; SIGNAL_STACK_BYTES]);
    let stack = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
    // SAFETY: the memory is never freed, and nothing else is told of it.
    unsafe { libc::sigaltstack(&stack, std::ptr::null_mut()) };
}
