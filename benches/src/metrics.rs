//! Reads what a server says of itself over HTTP: whether it is ready, and its metrics.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// A server that answers no plain request within this is not there.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The body of a GET, if the answer is 200. HTTP/1.0, so that the answer comes whole and the
/// connection ends with it.
pub(crate) async fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        anyhow::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = timeout(TIMEOUT, exchange)
        .await
        .with_context(|| format!("no answer from http://{address}{path} in {TIMEOUT:?}"))?
        .with_context(|| format!("get http://{address}{path}"))?;
    body(&answer).with_context(|| format!("get http://{address}{path}"))
}

fn body(answer: &str) -> anyhow::Result<String> {
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the answer is not HTTP")?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status != "200" {
        bail!("status is {status}, expected 200: {}", body.trim());
    }
    Ok(body.to_owned())
}

/// One reading of `/metrics`: each series by its name and labels as printed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    pub(crate) fn parse(text: &str) -> Self {
        let series = text
            .lines()
            .filter(|l| !l.starts_with('#'))
            .filter_map(|line| {
                let (name, value) = line.rsplit_once(' ')?;
                Some((name.to_owned(), value.parse().ok()?))
            });
        Self(series.collect())
    }

    /// The value of one series, by its name and labels as printed.
    pub(crate) fn value(&self, series: &str) -> anyhow::Result<f64> {
        self.0
            .get(series)
            .copied()
            .with_context(|| format!("the server has no metric {series}"))
    }

    /// Names of the histograms in seconds, without their suffix, in order.
    pub(crate) fn histograms(&self) -> Vec<String> {
        let names = self.0.keys().filter_map(|series| {
            let name = series.split('{').next()?;
            name.strip_suffix("_seconds_count")
                .map(|stem| format!("{stem}_seconds"))
        });
        let mut names: Vec<String> = names.collect();
        names.dedup();
        names
    }

    /// For each series of histogram `name` that saw something between `earlier` and this reading:
    /// its labels as printed, the mean of what it saw in milliseconds, and how often it saw it.
    pub(crate) fn means_ms_since(&self, earlier: &Self, name: &str) -> Vec<(String, f64, f64)> {
        let grown = |series: &str| {
            Some(self.0.get(series)? - earlier.0.get(series).copied().unwrap_or_default())
        };
        let counted = format!("{name}_count");
        let of_labels = |series: &String| {
            let labels = series.strip_prefix(&counted)?;
            let count = grown(series).filter(|count| *count > 0.0)?;
            let sum = grown(&format!("{name}_sum{labels}"))?;
            Some((labels.to_owned(), sum / count * 1e3, count))
        };
        self.0.keys().filter_map(of_labels).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP search_seconds how long\n# TYPE search_seconds histogram\n\
        search_seconds_bucket{stage=\"dense\",le=\"0.1\"} 3\n\
        search_seconds_sum{stage=\"dense\"} 0.5\nsearch_seconds_count{stage=\"dense\"} 4\n\
        search_seconds_sum{stage=\"late\"} 1\nsearch_seconds_count{stage=\"late\"} 2\n\
        calls_total{method=\"Recall\",code=\"OK\"} 5\n";

    #[test]
    fn a_histograms_mean_is_that_of_what_came_between_two_readings() {
        let later = TEXT
            .replace("_sum{stage=\"dense\"} 0.5", "_sum{stage=\"dense\"} 0.9")
            .replace("_count{stage=\"dense\"} 4", "_count{stage=\"dense\"} 6");
        let (earlier, later) = (Metrics::parse(TEXT), Metrics::parse(&later));
        assert_eq!(later.histograms(), ["search_seconds"]);
        let sum = "search_seconds_sum{stage=\"dense\"}";
        assert_eq!(later.value(sum).unwrap(), 0.9);
        assert!(later.value("search_seconds_sum").is_err());
        let means = later.means_ms_since(&earlier, "search_seconds");
        let [(labels, mean_ms, count)] = means.as_slice() else {
            panic!("expected only the stage that ran: {means:?}");
        };
        assert_eq!((labels.as_str(), *count), ("{stage=\"dense\"}", 2.0));
        assert!((mean_ms - 200.0).abs() < 1e-9, "{mean_ms}");
        assert!(later.means_ms_since(&earlier, "other_seconds").is_empty());
    }

    #[test]
    fn only_a_200_has_a_body() {
        assert_eq!(
            body("HTTP/1.0 200 OK\r\na: b\r\n\r\nready\n").unwrap(),
            "ready\n"
        );
        let error = body("HTTP/1.0 503 Service Unavailable\r\n\r\nindex: behind").unwrap_err();
        assert_eq!(
            error.to_string(),
            "status is 503, expected 200: index: behind"
        );
        assert!(body("SSH-2.0").is_err());
    }

    #[tokio::test]
    async fn nobody_there_is_an_error_that_names_the_address() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = get(address, "/readyz").await.unwrap_err().to_string();
        assert_eq!(error, format!("get http://{address}/readyz"));
    }
}
