//! Joins the sources of settings, the later one over the earlier, and refuses what nobody knows.

use std::{ffi::OsString, fs, path::Path};

use serde::Deserialize as _;
use toml::{Table, Value};

use super::{
    Invalid, Settings,
    keys::{self, ENVIRONMENT_PREFIX},
};

/// Why settings could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("read settings file {path}: {source}")]
    Read {
        path: String,
        source: std::io::Error,
    },
    #[error("settings file {path} is not TOML: {reason}")]
    Syntax { path: String, reason: String },
    #[error("unknown setting {name} in {origin}; did you mean {nearest}?")]
    Unknown {
        name: String,
        origin: String,
        nearest: String,
    },
    #[error("setting {name} in {origin} is not UTF-8")]
    NotText { name: String, origin: String },
    #[error("settings do not have the right types: {reason}")]
    Types { reason: String },
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Settings read so far, over the defaults.
#[derive(Debug)]
pub struct Layers(Table);

impl Default for Layers {
    fn default() -> Self {
        Self(
            Table::try_from(Settings::default())
                .expect("the default settings are a TOML table, as a test shows"),
        )
    }
}

impl Layers {
    /// The file at `path`.
    pub fn file(self, path: &Path) -> Result<Self, LoadError> {
        let shown = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|source| LoadError::Read {
            path: shown.clone(),
            source,
        })?;
        self.toml(&text, &format!("file {shown}"))
    }

    /// TOML text; `origin` says where it came from.
    pub fn toml(mut self, text: &str, origin: &str) -> Result<Self, LoadError> {
        let table: Table = text
            .parse()
            .map_err(|error: toml::de::Error| LoadError::Syntax {
                path: origin.trim_start_matches("file ").to_owned(),
                reason: error.to_string().trim_end().to_owned(),
            })?;
        for (section, value) in table {
            let is_section = keys::SECTIONS.iter().any(|(s, _)| *s == section);
            if is_section && let Value::Table(fields) = value {
                for (field, value) in fields {
                    self.put(&format!("{section}.{field}"), value, origin)?;
                }
            } else {
                self.put(&section, value, origin)?;
            }
        }
        Ok(self)
    }

    /// Environment variables of the form `MEMORYGATE_SECTION__KEY`. Others that only share the
    /// prefix are not settings.
    pub fn environment(
        mut self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, LoadError> {
        let mut found: Vec<(String, OsString)> = variables
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| {
                name.strip_prefix(ENVIRONMENT_PREFIX)
                    .is_some_and(|rest| rest.contains("__"))
            })
            .collect();
        found.sort();
        for (variable, value) in found {
            let origin = format!("environment variable {variable}");
            let name = variable[ENVIRONMENT_PREFIX.len()..]
                .replace("__", ".")
                .to_lowercase();
            let Ok(value) = value.into_string() else {
                return Err(LoadError::NotText { name, origin });
            };
            self = self.text(&name, &value, &origin)?;
        }
        Ok(self)
    }

    /// One setting whose value is text, as variables and flags give it.
    pub fn text(mut self, name: &str, value: &str, origin: &str) -> Result<Self, LoadError> {
        let typed = match (self.get(name), value.parse::<Value>()) {
            // Text stays text even if it looks like a number.
            (Some(Value::String(_)), _) | (None, Err(_)) => Value::String(value.to_owned()),
            (_, Ok(parsed)) => parsed,
            (Some(_), Err(_)) => Value::String(value.to_owned()),
        };
        self.put(name, typed, origin)?;
        Ok(self)
    }

    /// Everything together, checked.
    pub fn settings(self) -> Result<Settings, LoadError> {
        let settings = Settings::deserialize(Value::Table(self.0)).map_err(|error| {
            let reason = error.to_string().trim_end().replace('\n', " ");
            LoadError::Types { reason }
        })?;
        settings.check()?;
        Ok(settings)
    }

    fn get(&self, name: &str) -> Option<&Value> {
        let mut parts = name.splitn(3, '.');
        let field = self.0.get(parts.next()?)?.as_table()?.get(parts.next()?)?;
        match parts.next() {
            None => Some(field),
            Some(entry) => field.as_table()?.get(entry),
        }
    }

    fn put(&mut self, name: &str, value: Value, origin: &str) -> Result<(), LoadError> {
        let unknown = || LoadError::Unknown {
            name: name.to_owned(),
            origin: origin.to_owned(),
            nearest: keys::nearest(name).to_owned(),
        };
        let mut parts = name.splitn(3, '.');
        let (Some(section), Some(field)) = (parts.next(), parts.next()) else {
            return Err(unknown());
        };
        if keys::find(&format!("{section}.{field}")).is_none() {
            return Err(unknown());
        }
        let section = self
            .0
            .entry(section)
            .or_insert_with(|| Value::Table(Table::new()))
            .as_table_mut()
            .expect("every section of the defaults is a table");
        match (section.get_mut(field), parts.next(), value) {
            // One entry of a table, or a table over a table: entries join.
            (Some(Value::Table(entries)), Some(entry), value) => {
                entries.insert(entry.to_owned(), value);
            }
            (Some(Value::Table(entries)), None, Value::Table(more)) => entries.extend(more),
            (_, Some(_), _) => return Err(unknown()),
            (_, None, value) => {
                section.insert(field.to_owned(), value);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<Settings, String> {
        Layers::default()
            .toml(text, "file node.toml")
            .and_then(Layers::settings)
            .map_err(|e| e.to_string())
    }

    fn environment(variables: &[(&str, &str)]) -> Result<Settings, String> {
        let variables = variables
            .iter()
            .map(|(n, v)| (OsString::from(n), OsString::from(v)));
        Layers::default()
            .environment(variables)
            .and_then(Layers::settings)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn nothing_set_is_the_default() {
        assert_eq!(file(""), Ok(Settings::default()));
        assert_eq!(environment(&[]), Ok(Settings::default()));
    }

    #[test]
    fn the_later_source_wins_key_by_key() {
        let settings = Layers::default()
            .toml(
                "[server]\nrequests_max = 7\nmessage_bytes_max = 9000000\n",
                "file a",
            )
            .unwrap()
            .environment([("MEMORYGATE_SERVER__REQUESTS_MAX".into(), "8".into())])
            .unwrap()
            .text("model.dir", "/models", "flag --model-dir")
            .unwrap()
            .settings()
            .unwrap();
        assert_eq!(settings.server.requests_max, 8);
        assert_eq!(settings.server.message_bytes_max, 9_000_000);
        assert_eq!(settings.model.dir, Path::new("/models"));
        assert_eq!(settings.log, Settings::default().log);
    }

    #[test]
    fn a_wrong_key_names_the_nearest_right_one() {
        assert_eq!(
            file("[server]\ngrpc_adress = \"x:1\"").unwrap_err(),
            "unknown setting server.grpc_adress in file node.toml; did you mean server.grpc_address?"
        );
        assert_eq!(
            file("[raft]\ngrpc_address = \"x:1\"").unwrap_err(),
            "unknown setting raft.grpc_address in file node.toml; did you mean server.grpc_address?"
        );
        assert_eq!(
            file("[rankng]\nlate = 1.0").unwrap_err(),
            "unknown setting rankng in file node.toml; did you mean ranking.late?"
        );
        assert_eq!(
            environment(&[("MEMORYGATE_DATA__DIRECTORY", "x")]).unwrap_err(),
            "unknown setting data.directory in environment variable MEMORYGATE_DATA__DIRECTORY; did \
             you mean data.dir?"
        );
        let too_deep = Layers::default()
            .text("log.level.x", "1", "flag --set")
            .unwrap_err();
        assert!(
            too_deep
                .to_string()
                .starts_with("unknown setting log.level.x in flag --set")
        );
    }

    #[test]
    fn other_variables_with_the_prefix_are_left_alone() {
        assert!(environment(&[("MEMORYGATE_ENDPOINT", "x"), ("PATH", "y")]).is_ok());
    }

    #[test]
    fn a_wrong_type_or_value_names_the_key() {
        let error = file("[server]\nrequests_max = \"many\"").unwrap_err();
        assert!(
            error.contains("requests_max") && error.contains("many"),
            "{error}"
        );
        let error = environment(&[("MEMORYGATE_SERVER__REQUESTS_MAX", "many")]).unwrap_err();
        assert!(
            error.contains("requests_max") && error.contains("many"),
            "{error}"
        );
        assert_eq!(
            file("[ranking]\nlate = -1.0").unwrap_err(),
            "ranking.late is -1, expected a number from 0 to 100"
        );
        assert_eq!(
            file("[raft]\nheartbeat_ms = 1").unwrap_err(),
            "raft.heartbeat_ms is 1, expected at least 10"
        );
        assert!(
            file("[server]\ngrpc_address = \"nowhere\"")
                .unwrap_err()
                .contains("HOST:PORT")
        );
        assert!(
            file("[log]\nlevel = \"loud=very\"")
                .unwrap_err()
                .starts_with("log.level is")
        );
        assert!(
            file("[server")
                .unwrap_err()
                .starts_with("settings file node.toml is not TOML")
        );
    }

    #[test]
    fn half_lives_of_domains_join_the_defaults() {
        let settings =
            file("[ranking.half_life_days_by_domain]\n\"db/postgres\" = 10.5\ndeployment = 1.0")
                .unwrap();
        let days = &settings.ranking.half_life_days_by_domain;
        assert_eq!(days["db/postgres"], 10.5);
        assert_eq!(days["deployment"], 1.0);
        assert_eq!(days["code_review"], 180.0);
        let name = "MEMORYGATE_RANKING__HALF_LIFE_DAYS_BY_DOMAIN__CODE_REVIEW";
        let settings = environment(&[(name, "7.5")]).unwrap();
        assert_eq!(
            settings.ranking.half_life_days_by_domain["code_review"],
            7.5
        );
    }

    #[test]
    fn text_that_looks_like_a_number_stays_text() {
        let settings = environment(&[("MEMORYGATE_DATA__DIR", "7")]).unwrap();
        assert_eq!(settings.data.dir, Path::new("7"));
    }
}
