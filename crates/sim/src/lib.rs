//! The seeded simulator: everything that decides, as it is in production, over a world in memory, with faults.
//!
//! Calls go through the API's table of operations; controllers, placement and reports through `plan`; each machine has
//! the agent's own `decide` over a runtime whose steps take simulated time; the balancer has its own health machine.
//! What happens is a list of operations (`ops`), made from a seed (`generate`) or written by hand (`scenarios/`); all
//! else that is left to chance comes from the seed too, so that the same script gives the same run. After every commit
//! the checker looks at what it changed. A run that goes wrong is shrunk to a short script of the same form.

mod api;
mod apply;
mod balancer;
mod bug;
mod check;
mod events;
mod generate;
mod group;
mod machine;
mod ops;
mod place;
mod placed;
mod program;
mod restart;
mod run;
mod runtime;
mod script;
mod settle;
mod soak;
mod targets;
mod world;

pub use bug::Bug;
pub use check::Checker;
pub use generate::chaos;
pub use ops::{Op, Options};
pub use place::Place;
pub use program::Program;
pub use run::{Failure, Script, told};
pub use soak::{Activity, week};
pub use world::{Tally, World};
