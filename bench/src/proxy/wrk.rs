//! Load by `wrk`, and what it saw.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A load: paths asked for in turn on connections that are kept.
pub struct Load {
    script: PathBuf,
    connections: u32,
}

/// What the clients saw in one run.
#[derive(Debug, Default, PartialEq)]
pub struct Seen {
    pub requests: u64,
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// Answers that were not 2xx or 3xx, and connections that failed.
    pub failed: u64,
}

impl Load {
    /// A load by a script that is put into the folder.
    pub fn new(folder: &Path, name: &str, paths: &[&str], connections: u32) -> Result<Load, String> {
        let script = folder.join(format!("{name}.lua"));
        let list: Vec<String> = paths.iter().map(|path| format!("'{path}'")).collect();
        let text = format!(
            "local all, n = {{}}, 0\n\
             init = function() for i, path in ipairs({{{}}}) do all[i] = wrk.format('GET', path) end end\n\
             request = function() n = n + 1; return all[n % #all + 1] end\n",
            list.join(", ")
        );
        std::fs::write(&script, text).map_err(|error| format!("{}: {error}", script.display()))?;
        Ok(Load { script, connections })
    }

    /// Runs it against a loopback port.
    pub fn run(&self, port: u16, seconds: u32) -> Result<Seen, String> {
        let mut command = Command::new("wrk");
        command.args([
            "--latency",
            "-t1",
            &format!("-c{}", self.connections),
            &format!("-d{seconds}s"),
            "-s",
        ]);
        command.arg(&self.script).arg(format!("http://127.0.0.1:{port}/"));
        let out = command.output().map_err(|error| format!("wrk: {error}"))?;
        let said = String::from_utf8_lossy(&out.stdout);
        if out.status.success() { Ok(read(&said)) } else { Err(format!("wrk: {}: {said}", out.status)) }
    }
}

/// Reads what wrk prints.
fn read(said: &str) -> Seen {
    let mut seen = Seen::default();
    for line in said.lines().map(str::trim) {
        let word = |n: usize| line.split_whitespace().nth(n).unwrap_or_default();
        if line.starts_with("50%") {
            seen.p50_us = microseconds(word(1));
        } else if line.starts_with("99%") {
            seen.p99_us = microseconds(word(1));
        } else if line.contains(" requests in ") {
            seen.requests = word(0).parse().unwrap_or(0);
        } else if line.starts_with("Requests/sec:") {
            seen.per_second = word(1).parse().unwrap_or(0.0);
        } else if line.starts_with("Non-2xx") {
            seen.failed += line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(1);
        } else if let Some(counts) = line.strip_prefix("Socket errors:") {
            let number =
                |part: &str| part.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(1);
            // A time-out of wrk's is a slow answer, not a lost one.
            seen.failed +=
                counts.split(',').filter(|part| !part.contains("timeout")).map(number).sum::<u64>();
        }
    }
    seen
}

fn microseconds(text: &str) -> f64 {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "us" => 1.0,
        "ms" => 1e3,
        _ => 1e6,
    };
    digits.parse::<f64>().unwrap_or(f64::NAN) * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_prints_is_read() {
        let said = "  Latency Distribution\n     50%    1.50ms\n     99%  810.00us\n  1234 requests in 5.01s, 1MB read\n\
                    \x20 Socket errors: connect 0, read 3, write 1, timeout 9\n  Non-2xx or 3xx responses: 7\n\
                    Requests/sec:    246.31\n";
        let expected = Seen { requests: 1234, per_second: 246.31, p50_us: 1500.0, p99_us: 810.0, failed: 11 };
        assert_eq!(read(said), expected);
    }
}
