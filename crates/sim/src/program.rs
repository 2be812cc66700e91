//! What a container does, told by its image's name, and how long things take.

use state::Ids;

/// What an image's program does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Runs on, passes its checks, ends soon after SIGTERM.
    Good,
    /// Its image cannot be pulled.
    Absent,
    /// It cannot be started.
    Broken,
    /// Its network cannot be made.
    Netless,
    /// Exits with code 1 soon after it started.
    Crash,
    /// Exits with code 0 after some seconds.
    Job,
    /// Exits with code 3 after a minute or three.
    Tired,
    /// Runs on, and no check of it passes.
    Sick,
    /// Runs on, and does not hear SIGTERM.
    Stubborn,
}

impl Program {
    /// All of them, by the first part of an image's name.
    pub const ALL: [(&str, Program); 9] = [
        ("good", Program::Good),
        ("absent", Program::Absent),
        ("broken", Program::Broken),
        ("netless", Program::Netless),
        ("crash", Program::Crash),
        ("job", Program::Job),
        ("tired", Program::Tired),
        ("sick", Program::Sick),
        ("stubborn", Program::Stubborn),
    ];

    /// The program of an image `name` or `name-anything`; any other name is good.
    pub fn of(image: &str) -> Program {
        let name = image.split('-').next().unwrap_or_default();
        Program::ALL.iter().find(|(known, _)| *known == name).map_or(Program::Good, |(_, program)| *program)
    }

    /// After how many milliseconds it ends by itself, and with what code.
    pub fn end(self, dice: &mut Ids) -> Option<(i64, i32)> {
        match self {
            Program::Crash => Some((between(dice, 20, 2_000), 1)),
            Program::Job => Some((between(dice, 3_000, 20_000), 0)),
            Program::Tired => Some((between(dice, 50_000, 200_000), 3)),
            _ => None,
        }
    }

    /// Whether it stays up, so that a service of it becomes steady.
    pub fn is_well(self) -> bool {
        matches!(self, Program::Good | Program::Stubborn)
    }

    /// Whether its checks pass while it runs.
    pub fn passes(self) -> bool {
        self != Program::Sick
    }
}

/// A number of milliseconds from `low` to below `high`.
pub fn between(dice: &mut Ids, low: i64, high: i64) -> i64 {
    low + (dice.next_u64() % (high - low) as u64) as i64
}
