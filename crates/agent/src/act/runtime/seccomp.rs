//! The default system-call filter: as OCI configuration for runtimes on the PATH, and as the kernel's own program for
//! the built-in one. Compiled here, so that no C library is needed.
//!
//! A call that is not permitted fails with EPERM. `clone3`, whose flags a filter cannot see, and calls newer than the
//! list fail with ENOSYS, so that programs fall back to older ones ("Seccomp security profiles for Docker").

mod calls;

use calls::{ALLOWED, ALLOWED_HERE, Call, WITH_CAPABILITY};
use serde_json::{Value, json};

/// Namespaces that `clone` must not make: every `CLONE_NEW…` flag.
const CLONE_NAMESPACES: u32 = 0x7E02_0000;
/// The execution domains of Linux and of 32-bit and BSD emulation that programs ask for; the last only asks.
const PERSONALITIES: [u32; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xFFFF_FFFF];
/// Sockets to the hypervisor.
const AF_VSOCK: u32 = 40;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: (&str, u32) = ("SCMP_ARCH_X86_64", 0xC000_003E);
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: (&str, u32) = ("SCMP_ARCH_AARCH64", 0xC000_00B7);

/// A call that is permitted for some values of one argument.
struct Conditional {
    call: Call,
    argument: u32,
    test: Test,
    /// What the call fails with otherwise; none = as any other.
    otherwise: Option<i32>,
}

enum Test {
    /// The argument has none of these bits.
    NoneOf(u32),
    /// The argument is one of these.
    OneOf(&'static [u32]),
    /// The argument is not this.
    Not(u32),
}

/// Which calls a container with these capabilities may make.
struct Profile {
    allowed: Vec<Call>,
    conditional: Vec<Conditional>,
    clone3: bool,
}

fn profile(capabilities: &[String]) -> Profile {
    let mut allowed: Vec<Call> = ALLOWED.iter().chain(ALLOWED_HERE).copied().collect();
    for (capability, calls) in WITH_CAPABILITY {
        if capabilities.iter().any(|c| c == capability) {
            allowed.extend_from_slice(calls);
        }
    }
    allowed.sort_by_key(|(_, number)| *number);
    allowed.dedup();
    let has = |number: libc::c_long| allowed.iter().any(|(_, n)| *n == number);
    let (clone, clone3) = (has(libc::SYS_clone), has(libc::SYS_clone3));
    let mut conditional = vec![
        Conditional {
            call: ("SYS_personality", libc::SYS_personality),
            argument: 0,
            test: Test::OneOf(&PERSONALITIES),
            otherwise: None,
        },
        Conditional {
            call: ("SYS_socket", libc::SYS_socket),
            argument: 0,
            test: Test::Not(AF_VSOCK),
            otherwise: None,
        },
    ];
    if !clone {
        let call = ("SYS_clone", libc::SYS_clone);
        conditional.push(Conditional {
            call,
            argument: 0,
            test: Test::NoneOf(CLONE_NAMESPACES),
            otherwise: None,
        });
    }
    Profile { allowed, conditional, clone3 }
}

/// The filter as OCI runtime configuration (`linux.seccomp`).
pub fn oci(capabilities: &[String]) -> Value {
    let profile = profile(capabilities);
    let bare = |call: &Call| call.0.trim_start_matches("SYS_").to_owned();
    let mut rules = vec![json!({
        "names": profile.allowed.iter().map(bare).collect::<Vec<_>>(), "action": "SCMP_ACT_ALLOW",
    })];
    for rule in &profile.conditional {
        let names = [bare(&rule.call)];
        let index = rule.argument;
        let mut push =
            |arg: Value| rules.push(json!({"names": names, "action": "SCMP_ACT_ALLOW", "args": [arg]}));
        match rule.test {
            Test::OneOf(values) => values
                .iter()
                .for_each(|value| push(json!({"index": index, "value": value, "op": "SCMP_CMP_EQ"}))),
            Test::Not(value) => push(json!({"index": index, "value": value, "op": "SCMP_CMP_NE"})),
            Test::NoneOf(mask) => {
                push(json!({"index": index, "value": mask, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}));
            }
        }
    }
    if !profile.clone3 {
        rules.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS}));
    }
    json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": libc::EPERM,
        "architectures": [ARCHITECTURE.0], "syscalls": rules,
    })
}

// === The kernel's program ===

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_ABOVE: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const JUMP_FROM: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const JUMP_BITS: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const ALLOW: u32 = 0x7FFF_0000;
const ERRNO: u32 = 0x0005_0000;

/// Offsets in `struct seccomp_data`.
const AT_NUMBER: u32 = 0;
const AT_ARCHITECTURE: u32 = 4;
const AT_ARGUMENTS: u32 = 16;

/// A system-call filter ready to be installed.
#[derive(Debug, Clone)]
pub struct Filter(Vec<libc::sock_filter>);

fn op(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// Compiles the filter.
pub fn compile(capabilities: &[String]) -> Filter {
    let profile = profile(capabilities);
    let refuse = op(RETURN, ERRNO | libc::EPERM as u32, 0, 0);
    let unknown = op(RETURN, ERRNO | libc::ENOSYS as u32, 0, 0);
    // Another architecture's calls have other numbers: none of them is known.
    let mut program = vec![op(LOAD, AT_ARCHITECTURE, 0, 0), op(JUMP_EQUAL, ARCHITECTURE.1, 1, 0), unknown];
    program.push(op(LOAD, AT_NUMBER, 0, 0));
    for rule in &profile.conditional {
        let block = conditional(rule);
        program.push(op(JUMP_EQUAL, rule.call.1 as u32, 0, block.len() as u8));
        program.extend(block);
    }
    if !profile.clone3 {
        program.extend([op(JUMP_EQUAL, libc::SYS_clone3 as u32, 0, 1), unknown]);
    }
    let numbers: Vec<u32> = profile.allowed.iter().map(|(_, number)| *number as u32).collect();
    for (first, last) in ranges(&numbers) {
        program.extend([
            op(JUMP_FROM, first, 1, 0),
            refuse,
            op(JUMP_ABOVE, last, 1, 0),
            op(RETURN, ALLOW, 0, 0),
        ]);
    }
    // Above the newest call in the list: newer than the list, or (bit 30) the x32 variant.
    let newest = numbers.last().copied().unwrap_or_default();
    program.extend([op(JUMP_ABOVE, newest, 0, 1), unknown, refuse]);
    Filter(program)
}

fn conditional(rule: &Conditional) -> Vec<libc::sock_filter> {
    let allow = op(RETURN, ALLOW, 0, 0);
    let refuse = op(RETURN, ERRNO | rule.otherwise.unwrap_or(libc::EPERM) as u32, 0, 0);
    let mut block = vec![op(LOAD, AT_ARGUMENTS + 8 * rule.argument, 0, 0)];
    match rule.test {
        Test::NoneOf(mask) => block.extend([op(JUMP_BITS, mask, 0, 1), refuse, allow]),
        Test::Not(value) => block.extend([op(JUMP_EQUAL, value, 0, 1), refuse, allow]),
        Test::OneOf(values) => {
            for value in values {
                block.extend([op(JUMP_EQUAL, *value, 0, 1), allow]);
            }
            block.push(refuse);
        }
    }
    block
}

/// Runs of neighbouring numbers, ascending.
fn ranges(numbers: &[u32]) -> Vec<(u32, u32)> {
    let mut found: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match found.last_mut() {
            Some((_, last)) if *last + 1 >= *number => *last = *number,
            _ => found.push((*number, *number)),
        }
    }
    found
}

impl Filter {
    /// Installs the filter on this thread, for good. Needs `no_new_privs` or `CAP_SYS_ADMIN`.
    ///
    /// # Errors
    /// Those of `seccomp(2)`.
    pub fn install(&self) -> std::io::Result<()> {
        let program = libc::sock_fprog { len: self.0.len() as u16, filter: self.0.as_ptr().cast_mut() };
        // SAFETY: the kernel copies the program, which lives through the call.
        let set = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &program) };
        if set == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do with the program: a model of the instructions used.
    fn run(filter: &Filter, number: u32, argument: u32) -> u32 {
        let mut accumulator = 0;
        let mut at = 0;
        loop {
            let insn = filter.0[at];
            at += 1;
            let jump = |yes: bool| usize::from(if yes { insn.jt } else { insn.jf });
            match insn.code {
                LOAD => {
                    accumulator = match insn.k {
                        AT_NUMBER => number,
                        AT_ARCHITECTURE => ARCHITECTURE.1,
                        AT_ARGUMENTS => argument,
                        other => panic!("load of {other}"),
                    }
                }
                JUMP_EQUAL => at += jump(accumulator == insn.k),
                JUMP_ABOVE => at += jump(accumulator > insn.k),
                JUMP_FROM => at += jump(accumulator >= insn.k),
                JUMP_BITS => at += jump(accumulator & insn.k != 0),
                RETURN => return insn.k,
                other => panic!("instruction {other}"),
            }
        }
    }

    const EPERM: u32 = ERRNO | libc::EPERM as u32;
    const ENOSYS: u32 = ERRNO | libc::ENOSYS as u32;

    #[test]
    fn every_listed_call_is_allowed_and_no_other() {
        let filter = compile(&[]);
        let profile = profile(&[]);
        let allowed: Vec<u32> = profile.allowed.iter().map(|(_, n)| *n as u32).collect();
        let special =
            [libc::SYS_personality, libc::SYS_socket, libc::SYS_clone, libc::SYS_clone3].map(|n| n as u32);
        for number in 0..1000 {
            if special.contains(&number) {
                continue;
            }
            let want = match number {
                n if allowed.contains(&n) => ALLOW,
                n if n > *allowed.last().unwrap() => ENOSYS,
                _ => EPERM,
            };
            assert_eq!(run(&filter, number, 0), want, "call {number}");
        }
        assert_eq!(run(&filter, 0x4000_0000, 0), ENOSYS, "x32");
    }

    #[test]
    fn conditions_hold() {
        let filter = compile(&[]);
        let call = |number: libc::c_long, argument| run(&filter, number as u32, argument);
        assert_eq!(call(libc::SYS_clone, 0x11), ALLOW);
        assert_eq!(call(libc::SYS_clone, 0x1000_0000), EPERM, "a user namespace");
        assert_eq!(call(libc::SYS_clone3, 0), ENOSYS);
        assert_eq!(call(libc::SYS_socket, 2), ALLOW);
        assert_eq!(call(libc::SYS_socket, 40), EPERM);
        assert_eq!(call(libc::SYS_personality, 0x8), ALLOW);
        assert_eq!(call(libc::SYS_personality, 0x9), EPERM);
        assert_eq!(call(libc::SYS_mount, 0), EPERM);
    }

    #[test]
    fn capabilities_widen_the_filter() {
        let filter = compile(&["CAP_SYS_ADMIN".into()]);
        for number in [libc::SYS_mount, libc::SYS_clone3, libc::SYS_unshare] {
            assert_eq!(run(&filter, number as u32, 0), ALLOW);
        }
        assert_eq!(run(&filter, libc::SYS_clone as u32, 0x1000_0000), ALLOW);
        assert!(oci(&[]).to_string().contains("SCMP_CMP_MASKED_EQ"));
    }
}
