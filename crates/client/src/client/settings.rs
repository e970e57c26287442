//! What can be set of a client.

use std::time::Duration;

use tonic::transport::{Endpoint, Uri};

use crate::{
    error::{Error, Kind, Outcome, Violations},
    scope::Reader,
};

/// Where a server listens that was not told otherwise.
pub const ENDPOINT_DEFAULT: &str = "http://127.0.0.1:7411";

/// Endpoints of one client, at most.
pub const ENDPOINTS_MAX: usize = 64;

/// Settings of a [`Client`](crate::Client). Start from [`Settings::new`] and change what differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `http://HOST:PORT`, or `HOST:PORT`: where to begin. Without `follow_members`, the first that
    /// answers is used until it does not.
    pub endpoints: Vec<String>,
    /// Of requests that name none. Default: `default`.
    pub namespace: String,
    /// Of requests that name none. Default: sees what is shared.
    pub reader: Reader,
    /// How long one call may take, all its attempts together. Default: 30 s.
    pub timeout: Duration,
    /// How long one connection attempt may take. Default: 2 s.
    pub connect_timeout: Duration,
    /// How often one call is tried at each server, at most. Default: 8, which with the back-off
    /// below rides through some seven seconds without a server. A cluster of several nodes that has
    /// answered is waited for until the call's time is over, as while it elects a leader.
    pub attempts_max: u32,
    /// Wait before the second attempt; doubled for each further one, with jitter. Default: 100 ms.
    pub backoff_initial: Duration,
    /// The longest such wait. Default: 2 s.
    pub backoff_max: Duration,
    /// While a call is open, the connection is probed this often, so that a host that vanished
    /// without a word is noticed: within twice this time. Default: 2 s.
    pub keep_alive: Duration,
    /// Whether reads are at least as recent as what this client has seen. Default: true.
    pub read_your_writes: bool,
    /// Whether to learn the members of the cluster from the endpoints: writes go to the leader,
    /// reads are spread over the members. Switch it off to talk to the endpoints alone, such as a
    /// load balancer that is meant to choose. Members that cannot be reached from here are left
    /// alone in either case. Default: true.
    pub follow_members: bool,
}

impl Settings {
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            namespace: "default".to_owned(),
            reader: Reader::default(),
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(2),
            attempts_max: 8,
            backoff_initial: Duration::from_millis(100),
            backoff_max: Duration::from_secs(2),
            keep_alive: Duration::from_secs(2),
            read_your_writes: true,
            follow_members: true,
        }
    }

    /// Checks everything, and makes one transport endpoint of each address.
    pub(super) fn check(&self) -> Result<Vec<Endpoint>, Error> {
        let mut violations = Violations::default();
        if self.endpoints.is_empty() || self.endpoints.len() > ENDPOINTS_MAX {
            let actual = self.endpoints.len();
            violations.add(
                "endpoints",
                format!("{actual} endpoints, expected 1 to {ENDPOINTS_MAX}"),
            );
        }
        let endpoints: Vec<Endpoint> = self
            .endpoints
            .iter()
            .filter_map(|address| violations.check("endpoints", self.endpoint(address)))
            .collect();
        violations.check(
            "namespace",
            memorygate_core::name::Namespace::parse(&self.namespace),
        );
        violations.nest("reader", self.reader.check().0);
        for (field, value) in [
            ("timeout", self.timeout),
            ("connect_timeout", self.connect_timeout),
            ("keep_alive", self.keep_alive),
        ] {
            if value.is_zero() {
                violations.add(field, format!("{field} is 0, expected a longer time"));
            }
        }
        if self.attempts_max == 0 {
            violations.add("attempts_max", "attempts_max is 0, expected at least 1");
        }
        violations.into_result("connect")?;
        Ok(endpoints)
    }

    pub(super) fn endpoint(&self, address: &str) -> Result<Endpoint, Error> {
        let refuse = |why: &str| {
            let message = format!("endpoint {address:?} {why}");
            Error::new(Kind::Fix, Outcome::Failed, "connect", message)
        };
        let text = if address.contains("://") {
            address.to_owned()
        } else {
            format!("http://{address}")
        };
        let uri: Uri = text
            .parse()
            .map_err(|_| refuse("is not an address, expected http://HOST:PORT"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(refuse("asks for TLS, which this version cannot do yet")),
            Some(_) | None => return Err(refuse("has an unknown scheme, expected http")),
        }
        if uri.host().is_none_or(str::is_empty) || uri.port_u16().is_none() {
            return Err(refuse("lacks a host or a port, expected http://HOST:PORT"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(refuse("has a path, expected http://HOST:PORT alone"));
        }
        Ok(Endpoint::from(uri)
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(self.keep_alive)
            .keep_alive_timeout(self.keep_alive)
            .user_agent(concat!("memorygate-client/", env!("CARGO_PKG_VERSION")))
            .expect("the version is a valid header value"))
    }
}

impl Default for Settings {
    /// One server on this machine.
    fn default() -> Self {
        Self::new([ENDPOINT_DEFAULT])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(settings: &Settings) -> String {
        match settings.check() {
            Ok(endpoints) => endpoints
                .iter()
                .map(|e| e.uri().to_string())
                .collect::<Vec<_>>()
                .join(" "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn addresses_are_read_or_refused_with_the_reason() {
        let one = |address: &str| check(&Settings::new([address]));
        assert_eq!(one("http://node-1:7411"), "http://node-1:7411/");
        assert_eq!(one("[::1]:7411"), "http://[::1]:7411/");
        assert!(one("https://node-1:7411").contains("TLS"));
        assert!(one("ftp://node-1:7411").contains("unknown scheme"));
        assert!(one("node-1").contains("lacks a host or a port"));
        assert!(one("http://node-1:7411/v1").contains("has a path"));
        assert!(one("http://no de:1").contains("is not an address"));
        assert!(check(&Settings::new::<String>([])).contains("0 endpoints"));
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let settings = Settings {
            timeout: Duration::ZERO,
            attempts_max: 0,
            namespace: "No".into(),
            ..Settings::default()
        };
        let error = settings.check().unwrap_err();
        let fields: Vec<_> = error
            .violations()
            .iter()
            .map(|v| v.field.as_str())
            .collect();
        assert_eq!(fields, ["namespace", "timeout", "attempts_max"]);
    }
}
