//! The smallest program that can be re-executed as a supervisor: what the agent's own tests start.

fn main() {
    std::process::exit(agent::reexec(std::env::args_os()).unwrap_or_else(|| {
        eprintln!("agent-reexec is started by the agent only");
        2
    }));
}
