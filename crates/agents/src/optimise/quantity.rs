//! Quantities as Kubernetes writes them, read to a number and written rounded up to what people write.

const MI: f64 = 1_048_576.0;

/// Suffixes, the longer ones first.
const SUFFIXES: &[(&str, f64)] = &[
    ("Ki", 1024.0),
    ("Mi", MI),
    ("Gi", MI * 1024.0),
    ("Ti", MI * MI),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
];

/// Bytes or cores; `None` for what is no quantity. Neither negative nor without end.
pub(super) fn parse(text: &str) -> Option<f64> {
    let text = text.trim();
    let (number, factor) = SUFFIXES
        .iter()
        .find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)))
        .unwrap_or((text, 1.0));
    let is_number = number.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let value = number.parse::<f64>().ok().filter(|_| is_number)? * factor;
    value.is_finite().then_some(value)
}

/// As `384Mi`: rounded up to 16Mi, from 1Gi on to 64Mi.
pub(super) fn memory(bytes: f64) -> String {
    let step = if bytes > 1024.0 * MI { 64.0 } else { 16.0 };
    let mebibytes = ((bytes / MI / step).ceil() * step).max(step) as u64;
    if mebibytes.is_multiple_of(1024) {
        format!("{}Gi", mebibytes / 1024)
    } else {
        format!("{mebibytes}Mi")
    }
}

/// As `250m`: rounded up to 10m, from one core on to 100m.
pub(super) fn cpu(cores: f64) -> String {
    let step = if cores > 1.0 { 100.0 } else { 10.0 };
    let thousandths = ((cores * 1000.0 / step - 1e-9).ceil() * step).max(step) as u64;
    if thousandths.is_multiple_of(1000) {
        (thousandths / 1000).to_string()
    } else {
        format!("{thousandths}m")
    }
}

/// As it was measured: `235Mi`.
pub(super) fn memory_seen(bytes: f64) -> String {
    format!("{:.0}Mi", bytes / MI)
}

/// As it was measured: `120m`.
pub(super) fn cpu_seen(cores: f64) -> String {
    format!("{:.0}m", cores * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        let read = |text: &str| parse(text).unwrap();
        assert_eq!(read("256Mi"), 256.0 * MI);
        assert_eq!(read("1Gi"), 1024.0 * MI);
        assert_eq!(read("128974848"), 128_974_848.0);
        assert_eq!(read("129e6"), 129e6);
        assert_eq!(read("1.5"), 1.5);
        assert!((read("250m") - 0.25).abs() < 1e-9);
        assert!((read("120000000n") - 0.12).abs() < 1e-9);
        for wrong in [
            "",
            "Mi",
            "-1",
            "inf",
            "nan",
            "1e999",
            "12 apples",
            "<unknown>",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn they_are_written_rounded_up() {
        assert_eq!(memory(250.0 * MI), "256Mi");
        assert_eq!(memory(257.0 * MI), "272Mi");
        assert_eq!(memory(2047.0 * MI), "2Gi");
        assert_eq!(memory(0.0), "16Mi");
        assert_eq!(cpu(0.25), "250m");
        assert_eq!(cpu(0.251), "260m");
        assert_eq!(cpu(1.95), "2");
        assert_eq!(cpu(0.0), "10m");
    }
}
