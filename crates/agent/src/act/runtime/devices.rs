//! Devices: which nodes a container has, and which devices it may use.
//!
//! On version 1 cgroups the runtime writes the rules to the device controller. Version 2 has none: there a small program
//! in the kernel's eBPF decides each access, compiled here from the same rules and attached to the container's cgroup.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use state::group::ContainerSpec;

/// Device nodes to make, and what the device controller permits.
pub fn of(spec: &ContainerSpec) -> Result<(Value, Value), String> {
    if spec.privileged {
        return Ok((json!(host_devices()), json!([{"allow": true, "access": "rwm"}])));
    }
    let allow = |kind: &str, major: Option<u64>, minor: Option<u64>, access: &str| {
        let mut rule = json!({"allow": true, "type": kind, "access": access});
        if let Some(major) = major {
            rule["major"] = json!(major);
        }
        if let Some(minor) = minor {
            rule["minor"] = json!(minor);
        }
        rule
    };
    let mut rules = vec![
        json!({"allow": false, "access": "rwm"}),
        allow("c", None, None, "m"),
        allow("b", None, None, "m"),
    ];
    // null, zero, full, random, urandom, tty, console, ptmx, pts/*.
    for (major, minor) in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)] {
        rules.push(allow("c", Some(major), Some(minor), "rwm"));
    }
    rules.push(allow("c", Some(136), None, "rwm"));
    let mut nodes = Vec::new();
    for (host, container, permissions) in &spec.linux.devices {
        let found = std::fs::metadata(host).map_err(|err| {
            format!("error gathering device information while adding custom device {host:?}: {err}")
        })?;
        let kind = match found.file_type() {
            t if t.is_char_device() => "c",
            t if t.is_block_device() => "b",
            _ => {
                return Err(format!(
                    "error gathering device information while adding custom device {host:?}: not a device node"
                ));
            }
        };
        let (major, minor) = (u64::from(libc::major(found.rdev())), u64::from(libc::minor(found.rdev())));
        rules.push(allow(kind, Some(major), Some(minor), permissions));
        nodes.push(json!({"path": container, "type": kind, "major": major, "minor": minor,
            "fileMode": found.mode() & 0o777, "uid": found.uid(), "gid": found.gid()}));
    }
    Ok((json!(nodes), json!(rules)))
}

/// All device nodes of the host, for privileged containers.
fn host_devices() -> Vec<Value> {
    let mut nodes = Vec::new();
    let mut folders = vec![PathBuf::from("/dev")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(found) = entry.metadata() else { continue };
            let kind = match found.file_type() {
                t if t.is_dir()
                    && !["pts", "shm", "fd", "mqueue"]
                        .contains(&entry.file_name().to_str().unwrap_or("")) =>
                {
                    folders.push(path);
                    continue;
                }
                t if t.is_char_device() => "c",
                t if t.is_block_device() => "b",
                _ => continue,
            };
            if ["/dev/console", "/dev/ptmx"].contains(&path.to_str().unwrap_or_default()) {
                continue;
            }
            nodes.push(json!({"path": path, "type": kind, "major": libc::major(found.rdev()),
                "minor": libc::minor(found.rdev()), "fileMode": found.mode() & 0o777,
                "uid": found.uid(), "gid": found.gid()}));
        }
    }
    nodes
}

// === The kernel's program (version 2) ===

/// One instruction of eBPF: operation, registers, jump or memory offset, constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    constant: i32,
}

fn op(code: u8, destination: u8, source: u8, offset: i16, constant: i32) -> Instruction {
    Instruction { code, registers: source << 4 | destination, offset, constant }
}

const LOAD_WORD: u8 = 0x61;
const AND_CONSTANT: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const MOVE_REGISTER: u8 = 0xbc;
const MOVE_CONSTANT: u8 = 0xb7;
const JUMP_UNLESS_CONSTANT: u8 = 0x55;
const JUMP_UNLESS_REGISTER: u8 = 0x5d;
const EXIT: u8 = 0x95;

/// Compiles rules as OCI configuration has them: everything is refused but for what the rules that allow say.
///
/// # Errors
/// A rule that is not of the kind that [`of`] makes.
fn compile(rules: &Value) -> Result<Vec<Instruction>, String> {
    // In: register 1 points at (access << 16 | type), major, minor. Kept: 2 type, 3 access, 4 major, 5 minor.
    let mut program = vec![
        op(LOAD_WORD, 2, 1, 0, 0),
        op(AND_CONSTANT, 2, 0, 0, 0xffff),
        op(LOAD_WORD, 3, 1, 0, 0),
        op(SHIFT_RIGHT, 3, 0, 0, 16),
        op(LOAD_WORD, 4, 1, 4, 0),
        op(LOAD_WORD, 5, 1, 8, 0),
    ];
    for rule in rules.as_array().into_iter().flatten().filter(|rule| rule["allow"] == true) {
        let mut block = Vec::new();
        match rule.get("type").and_then(Value::as_str) {
            Some("b") => block.push(op(JUMP_UNLESS_CONSTANT, 2, 0, 0, 1)),
            Some("c") => block.push(op(JUMP_UNLESS_CONSTANT, 2, 0, 0, 2)),
            None | Some("a") => {}
            Some(other) => return Err(format!("a device of type {other:?}")),
        }
        let access = rule["access"].as_str().unwrap_or("rwm");
        let bits = access.bytes().try_fold(0, |bits, byte| match byte {
            b'm' => Ok(bits | 1),
            b'r' => Ok(bits | 2),
            b'w' => Ok(bits | 4),
            _ => Err(format!("device permissions {access:?}")),
        })?;
        if bits != 7 {
            block.extend([
                op(MOVE_REGISTER, 1, 3, 0, 0),
                op(AND_CONSTANT, 1, 0, 0, bits),
                op(JUMP_UNLESS_REGISTER, 1, 3, 0, 0),
            ]);
        }
        for (name, register) in [("major", 4), ("minor", 5)] {
            if let Some(number) = rule.get(name).and_then(Value::as_i64) {
                block.push(op(JUMP_UNLESS_CONSTANT, register, 0, 0, number as i32));
            }
        }
        let is_everything = block.is_empty();
        block.extend([op(MOVE_CONSTANT, 0, 0, 0, 1), op(EXIT, 0, 0, 0, 0)]);
        let length = block.len();
        for (at, instruction) in block.iter_mut().enumerate() {
            if [JUMP_UNLESS_CONSTANT, JUMP_UNLESS_REGISTER].contains(&instruction.code) {
                instruction.offset = (length - at - 1) as i16;
            }
        }
        program.extend(block);
        if is_everything {
            // The kernel refuses a program with instructions that are never reached.
            return Ok(program);
        }
    }
    program.extend([op(MOVE_CONSTANT, 0, 0, 0, 0), op(EXIT, 0, 0, 0, 0)]);
    Ok(program)
}

/// `union bpf_attr` as BPF_PROG_LOAD has it.
#[repr(C)]
struct Load {
    program_type: u32,
    instructions: u32,
    first: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// `union bpf_attr` as BPF_PROG_ATTACH has it.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

const PROGRAM_LOAD: i32 = 5;
const PROGRAM_ATTACH: i32 = 8;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

fn bpf<T>(command: i32, attributes: &T) -> io::Result<i32> {
    // SAFETY: the structure begins as the kernel's does for this command, and its size is told.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, std::mem::size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

/// Enforces device rules for all processes of a version 2 cgroup.
///
/// # Errors
/// When the kernel does not take the program.
pub fn enforce(cgroup: &Path, rules: &Value) -> Result<(), String> {
    let failed = |err: io::Error| format!("device rules cannot be enforced: {err}");
    let program = compile(rules)?;
    let folder = File::open(cgroup).map_err(failed)?;
    let load = Load {
        program_type: TYPE_CGROUP_DEVICE,
        instructions: program.len() as u32,
        first: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    let loaded = bpf(PROGRAM_LOAD, &load).map_err(failed)?;
    // SAFETY: the kernel has just given this descriptor to us alone. The cgroup keeps the program when it is closed.
    let loaded = unsafe { OwnedFd::from_raw_fd(loaded) };
    let attach = Attach {
        target: folder.as_raw_fd() as u32,
        program: loaded.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    bpf(PROGRAM_ATTACH, &attach).map(drop).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would do with the program: a model of the instructions used.
    fn run(program: &[Instruction], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0_u32; 6];
        let mut at = 0_usize;
        loop {
            let insn = program[at];
            at += 1;
            let (to, from) = (usize::from(insn.registers & 15), usize::from(insn.registers >> 4));
            let constant = insn.constant as u32;
            match insn.code {
                LOAD_WORD => registers[to] = context[insn.offset as usize / 4],
                AND_CONSTANT => registers[to] &= constant,
                SHIFT_RIGHT => registers[to] >>= constant,
                MOVE_REGISTER => registers[to] = registers[from],
                MOVE_CONSTANT => registers[to] = constant,
                JUMP_UNLESS_CONSTANT if registers[to] != constant => at += insn.offset as usize,
                JUMP_UNLESS_REGISTER if registers[to] != registers[from] => at += insn.offset as usize,
                JUMP_UNLESS_CONSTANT | JUMP_UNLESS_REGISTER => {}
                EXIT => return registers[0] == 1,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn the_program_says_what_the_rules_say() {
        const BLOCK: u32 = 1;
        const CHAR: u32 = 2;
        let (_, rules) = of(&ContainerSpec::default()).unwrap();
        let program = compile(&rules).unwrap();
        assert!(run(&program, CHAR, 6, 1, 3), "/dev/null");
        assert!(run(&program, CHAR, 2, 136, 17), "a pseudo terminal");
        assert!(run(&program, BLOCK, 1, 8, 0), "any node may be made");
        assert!(!run(&program, BLOCK, 2, 8, 0), "but no disk read");
        assert!(!run(&program, CHAR, 2, 1, 1), "/dev/mem");
        let everything = ContainerSpec { privileged: true, ..ContainerSpec::default() };
        let program = compile(&of(&everything).unwrap().1).unwrap();
        assert!(run(&program, BLOCK, 7, 8, 0));
    }

    #[test]
    fn the_kernel_enforces_the_program() {
        let tree = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
        let tree = tree.into_iter().find(|tree| tree.join("cgroup.controllers").exists());
        // SAFETY: plain system call.
        let root = unsafe { libc::geteuid() } == 0;
        let Some(tree) = tree.filter(|_| root) else {
            return eprintln!("skipped: needs root and a version 2 cgroup tree");
        };
        let cgroup = tree.join(format!("roadstead-test-devices-{}", std::process::id()));
        std::fs::create_dir(&cgroup).unwrap();
        enforce(&cgroup, &of(&ContainerSpec::default()).unwrap().1).unwrap();
        let text = format!(
            "echo $$ > {}/cgroup.procs; echo x > /dev/null && ! head -c1 /dev/kmsg 2>/dev/null",
            cgroup.display()
        );
        let status = std::process::Command::new("/bin/sh").args(["-c", &text]).status().unwrap();
        std::fs::remove_dir(&cgroup).unwrap();
        assert!(status.success());
    }
}
