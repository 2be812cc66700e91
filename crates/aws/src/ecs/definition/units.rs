//! Task-level CPU and memory, which the API takes as text: `256`, `.5 vCPU`, `1 GB`.

use wire::Fault;

use crate::ecs::faults::client;

/// Task CPU in CPU units (1024 = one vCPU).
pub fn cpu_units(text: &str) -> Result<u32, Fault> {
    let bad = || {
        client(
            "Invalid 'cpu' setting for task. For more information, see the Troubleshooting section of the Amazon ECS \
             Developer Guide.",
        )
    };
    let units = scaled(text, &[("vcpus", 1024.0), ("vcpu", 1024.0)]).ok_or_else(bad)?;
    // An instance's largest; Fargate's own table is checked beside.
    if (128..=196_608).contains(&units) { Ok(units) } else { Err(bad()) }
}

/// Task memory in MiB.
pub fn memory_mib(text: &str) -> Result<u32, Fault> {
    let units = [("gib", 1024.0), ("gb", 1024.0), ("mib", 1.0), ("mb", 1.0)];
    let mib = scaled(text, &units).filter(|mib| *mib >= 4);
    mib.ok_or_else(|| {
        client(
            "Invalid 'memory' setting for task. For more information, see the Troubleshooting section of the Amazon \
             ECS Developer Guide.",
        )
    })
}

/// A whole number of the smallest unit.
fn scaled(text: &str, units: &[(&str, f64)]) -> Option<u32> {
    let text = text.trim().to_ascii_lowercase();
    let unit = units.iter().find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)));
    let (number, factor) = unit.unwrap_or((&text, 1.0));
    let number = number.trim();
    if !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    let value = number.parse::<f64>().ok()? * factor;
    (value.fract() == 0.0 && value >= 1.0 && value <= f64::from(u32::MAX)).then_some(value as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_read_as_the_api_writes_them() {
        for (text, units) in
            [("256", 256), ("1 vCPU", 1024), (".5vcpu", 512), ("0.25 vCPU", 256), ("2 vcpus", 2048)]
        {
            assert_eq!(cpu_units(text), Ok(units), "{text}");
        }
        for (text, mib) in [("512", 512), ("1GB", 1024), ("0.5 GB", 512), ("2 gib", 2048), ("64MB", 64)] {
            assert_eq!(memory_mib(text), Ok(mib), "{text}");
        }
        for bad in ["", "lots", "-1", "1.3", "64", "1e9", "NaN", "inf", "999999999"] {
            assert!(
                cpu_units(bad).unwrap_err().message.starts_with("Invalid 'cpu' setting for task."),
                "{bad}"
            );
        }
        for bad in ["", "much", "-1", "1.3", "3", "1 TB"] {
            assert!(
                memory_mib(bad).unwrap_err().message.starts_with("Invalid 'memory' setting for task."),
                "{bad}"
            );
        }
    }
}
