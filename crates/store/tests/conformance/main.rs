//! One contract, every backend.

mod failing;
mod suite;

use store::{Backend, Grouped, LogEngine, LogLimits, MemoryEngine};

#[test]
fn memory() {
    suite::run(&|limits| Box::new(Grouped::start(MemoryEngine::default(), limits).expect("start")));
}

/// The suite over the embedded engine with the given limits; each backend in its own folder.
fn run_embedded(log_limits: LogLimits) {
    let folder = tempfile::tempdir().expect("tempdir");
    let count = std::cell::Cell::new(0);
    suite::run(&|limits| -> Box<dyn Backend> {
        count.set(count.get() + 1);
        let dir = folder.path().join(count.get().to_string());
        let engine = LogEngine::open(&dir, log_limits).expect("open");
        Box::new(Grouped::start(engine, limits).expect("start"))
    });
}

#[test]
fn embedded() {
    run_embedded(LogLimits::default());
}

#[test]
fn embedded_compacting_all_the_time() {
    run_embedded(LogLimits { seal_bytes: 1 });
}
