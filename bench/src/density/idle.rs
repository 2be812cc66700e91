//! A static program that costs as little as a container can: it waits for SIGTERM and ends.

use std::path::{Path, PathBuf};
use std::process::Command;

/// No library, no allocation: the kernel's page tables are most of what it has.
const SOURCE: &str = r#"
#![no_std]
#![no_main]
use core::arch::{asm, global_asm};

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! { loop {} }

#[cfg(target_arch = "x86_64")]
unsafe fn call(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let answer: isize;
    unsafe { asm!("syscall", inlateout("rax") number as isize => answer, in("rdi") a, in("rsi") b, in("rdx") c,
        in("r10") d, out("rcx") _, out("r11") _) };
    answer
}
#[cfg(target_arch = "aarch64")]
unsafe fn call(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let answer: isize;
    unsafe { asm!("svc 0", in("x8") number, inlateout("x0") a as isize => answer, in("x1") b, in("x2") c,
        in("x3") d) };
    answer
}
#[cfg(target_arch = "x86_64")]
const NUMBERS: [usize; 3] = [14, 128, 231];
#[cfg(target_arch = "aarch64")]
const NUMBERS: [usize; 3] = [135, 137, 94];

#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "and rsp, -16", "call main");
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "bl main");

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    let term: u64 = 1 << (15 - 1);
    let set = &term as *const u64 as usize;
    // rt_sigprocmask(SIG_BLOCK), then rt_sigtimedwait without a time, then exit_group.
    unsafe {
        call(NUMBERS[0], 0, set, 0, 8);
        while call(NUMBERS[1], set, 0, 0, 8) != 15 {}
        call(NUMBERS[2], 0, 0, 0, 0);
    }
    loop {}
}
"#;

/// Builds the program into a folder; its path.
pub fn build(folder: &Path) -> Result<PathBuf, String> {
    let (source, program) = (folder.join("idle.rs"), folder.join("idle"));
    std::fs::write(&source, SOURCE).map_err(|error| format!("{}: {error}", source.display()))?;
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2024", "-O", "-C", "panic=abort", "-C", "relocation-model=static"]);
    rustc.args(["-C", "link-arg=-nostartfiles", "-C", "link-arg=-nostdlib", "-C", "link-arg=-static"]);
    rustc.args(["-C", "strip=symbols", "-o"]).arg(&program).arg(&source);
    match rustc.status() {
        Ok(status) if status.success() => Ok(program),
        Ok(status) => Err(format!("rustc: {status}")),
        Err(error) => Err(format!("rustc: {error}")),
    }
}

/// A tar of a root filesystem that holds the program as `/idle`.
pub fn layer(program: &Path) -> Result<Vec<u8>, String> {
    let bytes = std::fs::read(program).map_err(|error| format!("{}: {error}", program.display()))?;
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o755);
    tar.append_data(&mut header, "idle", &bytes[..]).map_err(|error| error.to_string())?;
    tar.into_inner().map_err(|error| error.to_string())
}
