//! Where something was measured, so that a figure can be made again: cores, processor, memory,
//! system and commit.

use std::{fmt, fs, path::Path, process::Command};

use serde_json::{Value, json};

/// The machine, the source and what was set by the environment.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    cores: usize,
    processor: String,
    memory_mib: u64,
    system: String,
    /// Processes that wanted to run in the last minute, on average: beside an idle machine's 0, the
    /// figures are those of a busy one.
    load: f64,
    /// Short id of the source's commit, with `+` if files were changed since; `None` outside a
    /// checkout.
    commit: Option<String>,
    /// Settings of the server that come from this process's environment, as `NAME=value`.
    settings: Vec<String>,
}

impl Machine {
    /// This machine, as far as it tells.
    pub(crate) fn here() -> Self {
        let processor = value_after(&read("/proc/cpuinfo"), "model name");
        let memory_kib = value_after(&read("/proc/meminfo"), "MemTotal");
        let memory_kib = memory_kib.and_then(|v| v.split(' ').next()?.parse::<u64>().ok());
        let load = read("/proc/loadavg");
        let load = load.split(' ').next().and_then(|load| load.parse().ok());
        let release = read("/proc/sys/kernel/osrelease");
        let mut settings: Vec<String> = std::env::vars()
            .filter(|(name, _)| is_setting(name))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        settings.sort();
        Self {
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            processor: processor.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            memory_mib: memory_kib.unwrap_or(0) / 1024,
            system: format!("Linux {}", release.trim()),
            load: load.unwrap_or(0.0),
            commit: commit(),
            settings,
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "cores": self.cores,
            "processor": self.processor,
            "memory_mib": self.memory_mib,
            "system": self.system,
            "load": self.load,
            "commit": self.commit,
            "settings": self.settings,
        })
    }

    #[cfg(test)]
    pub(crate) fn example() -> Self {
        Self {
            cores: 2,
            processor: "Example CPU".to_owned(),
            memory_mib: 4096,
            system: "Linux 6.1".to_owned(),
            load: 0.25,
            commit: Some("abc1234".to_owned()),
            settings: Vec::new(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cores,
            processor,
            memory_mib,
            system,
            load,
            commit,
            settings,
        } = self;
        write!(
            f,
            "{cores} cores, {processor}, {memory_mib} MiB memory, {system}, load {load:.2}"
        )?;
        if let Some(commit) = commit {
            write!(f, ", commit {commit}")?;
        }
        settings
            .iter()
            .try_for_each(|setting| write!(f, ", {setting}"))
    }
}

/// Whether a variable changes what a server does, beyond where its model is.
fn is_setting(name: &str) -> bool {
    let names_one = name.starts_with("MEMORYGATE_") && name.contains("__");
    name == "MEMORYGATE_CONFIG" || (names_one && name != "MEMORYGATE_MODEL__DIR")
}

/// The value of the first line `NAME : VALUE` or `NAME: VALUE`.
fn value_after(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then(|| value.trim().to_owned())
    })
}

/// The text of a file of the system, empty where there is none.
fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let id = git(&["rev-parse", "--short", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changed.is_empty() {
        id
    } else {
        format!("{id}+")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_from_the_systems_tables() {
        let text = "processor\t: 0\nmodel name\t: AMD EPYC: 9\nMemTotal:  24 kB\n";
        assert_eq!(value_after(text, "model name").unwrap(), "AMD EPYC: 9");
        assert_eq!(value_after(text, "MemTotal").unwrap(), "24 kB");
        assert_eq!(value_after(text, "model"), None);
    }

    #[test]
    fn what_changes_a_server_is_told() {
        assert!(is_setting("MEMORYGATE_RANKING__LATE") && is_setting("MEMORYGATE_CONFIG"));
        assert!(!is_setting("MEMORYGATE_MODEL__DIR") && !is_setting("MEMORYGATE_ENDPOINT"));
    }

    #[test]
    fn this_machine_says_what_it_is() {
        let here = Machine::here();
        assert!(here.cores > 0 && !here.processor.is_empty());
        assert!(here.to_string().contains("cores"), "{here}");
        assert_eq!(here.json()["cores"], here.cores);
    }
}
