//! Which namespaces a model may name: those of the server's settings, and no others.

use memorygate_client::recall::NAMESPACES_MAX;

use crate::{reply::Refusal, tools::Tool};

/// What a server finds memories in: its own namespace first, in which everything is learned.
#[derive(Clone, Debug)]
pub(crate) struct Namespaces(Vec<String>);

impl Namespaces {
    /// `others` are beside the own one; what is named twice counts once.
    pub(crate) fn new(own: &str, others: impl IntoIterator<Item = String>) -> Self {
        let mut names = vec![own.to_owned()];
        for other in others {
            if !names.contains(&other) {
                names.push(other);
            }
        }
        Self(names)
    }

    pub(crate) fn own(&self) -> &str {
        &self.0[0]
    }

    /// Their names, if there is more than the own one.
    pub(crate) fn several(&self) -> Option<String> {
        (self.0.len() > 1).then(|| self.0.join(", "))
    }

    /// Where to look: in those that were named, or in all.
    pub(crate) fn chosen(
        &self,
        tool: Tool,
        named: Option<Vec<String>>,
    ) -> Result<Vec<String>, Refusal> {
        const FIELD: &str = "namespaces";
        let Some(named) = named else {
            return Ok(self.0.clone());
        };
        let actual = named.len();
        if !(1..=NAMESPACES_MAX).contains(&actual) {
            let why = format!("{actual} names, expected 1 to {NAMESPACES_MAX}, or none at all");
            return Err(tool.wrong(FIELD, why));
        }
        for (at, name) in named.iter().enumerate() {
            self.check(tool, FIELD, name)?;
            if named[..at].contains(name) {
                return Err(tool.wrong(FIELD, format!("{name} is named twice")));
            }
        }
        Ok(named)
    }

    /// The namespace of one memory: the one that was named, or the own one.
    pub(crate) fn one(&self, tool: Tool, named: Option<String>) -> Result<String, Refusal> {
        match named {
            None => Ok(self.own().to_owned()),
            Some(name) => {
                self.check(tool, "namespace", &name)?;
                Ok(name)
            }
        }
    }

    fn check(&self, tool: Tool, field: &str, name: &str) -> Result<(), Refusal> {
        if self.0.iter().any(|known| known == name) {
            return Ok(());
        }
        let actual: String = name.chars().take(40).collect();
        let known = self.0.join(", ");
        Err(tool.wrong(
            field,
            format!("{actual:?} is not read here, expected of {known}"),
        ))
    }
}
