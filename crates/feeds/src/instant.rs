//! Times as other systems write them.
//!
//! RFC 3339, and what GitLab writes beside it (`2021-02-23 02:41:37 UTC`, `2021-02-23 02:41:37 +0100`).
//! Go's zero time, `0001-01-01T00:00:00Z`, stands for "not yet".

use memorygate_core::time::{DAY_MS, TimeMs};
use serde::{Deserialize as _, Deserializer, de::Error as _};

/// A text that is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("{actual:?} is no time, expected one such as 2026-01-31T12:00:00Z")]
    Format { actual: String },
    #[error(transparent)]
    Range(#[from] memorygate_core::time::Error),
}

/// Reads a time; parts of a millisecond are cut off. `None` for the empty text and for Go's zero time.
pub fn parse(text: &str) -> Result<Option<TimeMs>, ParseError> {
    if text.is_empty() || text.starts_with("0001-01-01T00:00:00") {
        return Ok(None);
    }
    let ms = unix_ms(text).ok_or_else(|| ParseError::Format {
        actual: text.chars().take(80).collect(),
    })?;
    Ok(Some(TimeMs::new(ms)?))
}

/// The day of a time, such as `2026-01-31`.
pub fn date(time: TimeMs) -> String {
    let (year, month, day) = civil(time.0.div_euclid(DAY_MS));
    format!("{year:04}-{month:02}-{day:02}")
}

/// A time in UTC, to the second: `2026-01-31T12:00:00Z`.
pub fn format(time: TimeMs) -> String {
    let seconds = time.0.rem_euclid(DAY_MS) / 1000;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{}T{hour:02}:{minute:02}:{second:02}Z", date(time))
}

/// For fields that may be absent, `null`, empty or zero.
pub(crate) fn optional<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<TimeMs>, D::Error> {
    match Option::<String>::deserialize(deserializer)? {
        None => Ok(None),
        Some(text) => parse(&text).map_err(D::Error::custom),
    }
}

/// For fields that must have a time.
pub(crate) fn required<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TimeMs, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text)
        .map_err(D::Error::custom)?
        .ok_or_else(|| D::Error::custom("no time, expected one such as 2026-01-31T12:00:00Z"))
}

fn unix_ms(text: &str) -> Option<i64> {
    let date = text.get(..10)?;
    let (year, month, day) = (
        digits(date.get(..4)?)?,
        digits(date.get(5..7)?)?,
        digits(date.get(8..)?)?,
    );
    let is_dated = date.as_bytes()[4] == b'-' && date.as_bytes()[7] == b'-';
    if !is_dated || !(1..=12).contains(&month) || !(1..=days_of(year, month)).contains(&day) {
        return None;
    }
    let rest = text.get(10..)?;
    if !rest.starts_with(['T', 't', ' ']) {
        return None;
    }
    let clock = rest.get(1..9)?;
    let (hour, minute, second) = (
        digits(clock.get(..2)?)?,
        digits(clock.get(3..5)?)?,
        digits(clock.get(6..)?)?,
    );
    let is_clock = clock.as_bytes()[2] == b':' && clock.as_bytes()[5] == b':';
    // A leap second is the second after it.
    if !is_clock || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut zone = rest.get(9..)?;
    let mut ms = 0;
    if let Some(fraction) = zone.strip_prefix('.') {
        let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let thousandths = format!("{:0<3}", &fraction[..length]);
        ms = digits(&thousandths[..3])?;
        zone = &fraction[length..];
        if length == 0 {
            return None;
        }
    }
    let seconds = hour * 3600 + minute * 60 + second - offset_s(zone)?;
    Some(days(year, month, day) * DAY_MS + seconds * 1000 + ms)
}

/// `Z`, ` UTC`, `+01:00` or ` +0100`, in seconds.
fn offset_s(zone: &str) -> Option<i64> {
    let zone = zone.strip_prefix(' ').unwrap_or(zone);
    if matches!(zone, "Z" | "z" | "UTC") {
        return Some(0);
    }
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let hours = digits(zone.get(1..3)?)?;
    let rest = zone.get(3..)?;
    let minutes = digits(rest.strip_prefix(':').unwrap_or(rest))?;
    let is_whole = rest.trim_start_matches(':').len() == 2 && hours < 24 && minutes < 60;
    is_whole.then_some(sign * (hours * 3600 + minutes * 60))
}

fn digits(text: &str) -> Option<i64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the Gregorian calendar. Years are counted from March, so that the leap day
/// is the last: 400 of them have 146,097 days, and 719,468 lie between 0000-03-01 and 1970-01-01.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of a day since 1970-01-01.
fn civil(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (
        year,
        month,
        day_of_year - (153 * month_from_march + 2) / 5 + 1,
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str) -> String {
        match parse(text) {
            Ok(Some(time)) => format!("{}.{:03}", format(time), time.0 % 1000),
            Ok(None) => "none".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn times_are_read_as_other_systems_write_them() {
        for (text, expected) in [
            ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z.000"),
            (
                "2018-08-03T09:52:26.739266876+02:00",
                "2018-08-03T07:52:26Z.739",
            ),
            ("2021-02-23T02:41:37.886Z", "2021-02-23T02:41:37Z.886"),
            ("2021-02-23 02:41:37 UTC", "2021-02-23T02:41:37Z.000"),
            ("2021-02-23 02:41:37 -0130", "2021-02-23T04:11:37Z.000"),
            ("2024-02-29T23:59:60Z", "2024-03-01T00:00:00Z.000"),
            ("0001-01-01T00:00:00Z", "none"),
            ("", "none"),
        ] {
            assert_eq!(check(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for bad in [
            "tomorrow",
            "2026-01-31",
            "2026-13-31T12:00:00Z",
            "2025-02-29T12:00:00Z",
            "2026-01-31T24:00:00Z",
            "2026-01-31T12:00:00",
            "2026-01-31T12:00:00.Z",
            "2026-01-31T12:00:00+1:00",
            "2026-01-31T12:00:00+01:0",
            "2026-01-31T12:00:00+01",
            "2026/01/31T12:00:00Z",
            "2026-01-3\u{e9}T12:00:00Z",
        ] {
            assert!(
                check(bad).contains("is no time"),
                "{bad} gave {}",
                check(bad)
            );
        }
        assert!(check("1969-12-31T23:59:59Z").contains("lies outside"));
    }

    proptest! {
        #[test]
        fn a_time_is_read_back_from_its_text(s in 0..=253_402_300_799_i64) {
            let time = TimeMs(s * 1000);
            prop_assert_eq!(parse(&format(time)), Ok(Some(time)));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}", tail in "[-0-9TZ:.+ U]{0,30}") {
            let _ = parse(&text);
            let _ = parse(&tail);
            let _ = parse(&format!("2026-01-31{tail}"));
        }
    }
}
