//! Settings as a file that can be used as it is: every key, explained, with its value.

use toml::{Table, Value};

use super::{
    Settings,
    keys::{self, Key},
};

/// Columns that comments are wrapped to.
const WIDTH: usize = 96;

/// A complete settings file.
pub fn to_commented_toml(settings: &Settings) -> String {
    let values = table(settings);
    let defaults = table(&Settings::default());
    let mut out = String::from(
        "# Settings of a MemoryGate node. Each can also be set by the environment variable named\n\
         # beside it, which goes before this file, or by `--set section.key=value`, which goes before\n\
         # both.\n",
    );
    for (section, about) in keys::SECTIONS {
        out.push_str(&format!("\n# {about}\n[{section}]\n"));
        // A table of a section must follow the section's plain values.
        let (tables, plain): (Vec<&Key>, Vec<&Key>) = keys::KEYS
            .iter()
            .filter(|k| k.section() == *section)
            .partition(|k| matches!(get(&values, k), Some(Value::Table(_))));
        for key in plain.into_iter().chain(tables) {
            out.push('\n');
            comment(&mut out, &explain(key, get(&defaults, key)));
            match get(&values, key) {
                None => out.push_str(&format!("# {} =\n", key.field())),
                Some(Value::Table(entries)) => {
                    out.push_str(&format!("[{}]\n", key.name));
                    for (entry, value) in entries {
                        let line: Table = [(entry.clone(), Value::Boolean(true))]
                            .into_iter()
                            .collect();
                        let quoted = line.to_string();
                        let quoted = quoted.trim_end().trim_end_matches(" = true");
                        out.push_str(&format!("{quoted} = {}\n", show(value)));
                    }
                }
                Some(value) => out.push_str(&format!("{} = {}\n", key.field(), show(value))),
            }
        }
    }
    out
}

fn explain(key: &Key, default: Option<&Value>) -> String {
    let default = match default {
        None => "unset".to_owned(),
        Some(Value::Table(entries)) => {
            let entries: Vec<String> = entries
                .iter()
                .map(|(k, v)| format!("{k} {}", show(v)))
                .collect();
            entries.join(", ")
        }
        Some(value) => show(value),
    };
    format!(
        "{} Unit: {}. Default: {default}. {}",
        key.help,
        key.unit,
        key.variable()
    )
}

/// Single-precision numbers as they were written: 0.6, not 0.6000000238418579.
fn show(value: &Value) -> String {
    match value {
        Value::Float(x) if f64::from(*x as f32) == *x => format!("{:?}", *x as f32),
        Value::Float(_)
        | Value::String(_)
        | Value::Integer(_)
        | Value::Boolean(_)
        | Value::Datetime(_)
        | Value::Array(_)
        | Value::Table(_) => value.to_string(),
    }
}

fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split(' ') {
        if line.len() + 1 + word.len() > WIDTH {
            out.push_str(&line);
            out.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}

fn table(settings: &Settings) -> Table {
    Table::try_from(settings).expect("settings are a TOML table, as a test shows")
}

fn get<'a>(table: &'a Table, key: &Key) -> Option<&'a Value> {
    table.get(key.section())?.as_table()?.get(key.field())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::settings::Layers;

    fn names(table: &Table) -> BTreeSet<String> {
        let fields = |(section, fields): (&String, &Value)| {
            let section = section.clone();
            let fields = fields.as_table().unwrap().clone();
            fields
                .into_iter()
                .map(move |(field, _)| format!("{section}.{field}"))
        };
        table.iter().flat_map(fields).collect()
    }

    /// TOML has no null, so a setting without a default is not in the serialised defaults.
    const UNSET: &[&str] = &[
        "cluster.advertise",
        "cluster.listen",
        "raft.expected_cluster_id",
        "server.advertise",
    ];

    #[test]
    fn the_table_of_keys_has_every_setting_and_no_other() {
        let mut settings = names(&table(&Settings::default()));
        settings.extend(UNSET.iter().map(|name| (*name).to_owned()));
        let listed: BTreeSet<String> = keys::KEYS.iter().map(|k| k.name.to_owned()).collect();
        assert_eq!(settings, listed);
        assert_eq!(listed.len(), keys::KEYS.len(), "a key is listed twice");
        for key in keys::KEYS {
            assert!(
                keys::SECTIONS.iter().any(|(s, _)| *s == key.section()),
                "{}",
                key.name
            );
            assert!(
                key.help.ends_with('.') && !key.unit.is_empty(),
                "{}",
                key.name
            );
        }
    }

    #[test]
    fn printed_settings_are_read_back_the_same() {
        let check = |settings: &Settings| {
            let printed = to_commented_toml(settings);
            let read = Layers::default()
                .toml(&printed, "file x")
                .unwrap()
                .settings()
                .unwrap();
            assert_eq!(&read, settings, "{printed}");
            printed
        };
        let printed = check(&Settings::default());
        for key in keys::KEYS {
            assert!(printed.contains(&key.variable()), "{}", key.name);
        }
        assert!(printed.lines().all(|line| line.len() <= 110), "{printed}");
        let mut changed = Settings::default();
        changed.ranking.late = 0.25;
        changed
            .ranking
            .half_life_days_by_domain
            .insert("db/postgres \"x\"".to_owned(), 3.5);
        changed.data.dir = "some where/\"quoted\"".into();
        check(&changed);
    }

    #[test]
    fn a_setting_without_a_default_is_shown_and_can_be_set() {
        let id = "00112233445566778899aabbccddeeff";
        assert!(to_commented_toml(&Settings::default()).contains("\n# expected_cluster_id =\n"));
        let set = format!("[raft]\nexpected_cluster_id = \"{id}\"");
        let settings = Layers::default()
            .toml(&set, "file x")
            .unwrap()
            .settings()
            .unwrap();
        assert!(to_commented_toml(&settings).contains(&format!("expected_cluster_id = \"{id}\"")));
    }
}
