//! Times as people and machines write them.
//!
//! Inside, a time is [`TimeMs`]: Unix milliseconds from 1970 to the year 9999. Outside it is RFC
//! 3339, or, for people, an amount of time ago or ahead (`2h`, `30d`, `1d12h`), also as it is shown to them
//! (`3 days ago`, `in 2 hours`).

use std::time::{SystemTime, UNIX_EPOCH};

use memorygate_core::time::{DAY_MS, TimeMs};
use prost_types::Timestamp;

const SECOND_MS: i64 = 1000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const MONTH_MS: i64 = 30 * DAY_MS;
const YEAR_MS: i64 = 365 * DAY_MS;

/// Which way a relative time points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Ago,
    Ahead,
}

/// A text that is not a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error(
        "time {actual:?} is neither RFC 3339 (2026-01-31T12:00:00Z or 2026-01-31) nor an amount such \
         as 90s, 15m, 2h, 30d, 2w or 1d12h"
    )]
    Format { actual: String },
    #[error(transparent)]
    Range(#[from] memorygate_core::time::Error),
}

/// This machine's clock.
pub fn now() -> TimeMs {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    TimeMs(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

/// Reads RFC 3339, a date alone (midnight UTC), or an amount of time relative to `now`, also as [`relative`]
/// says it of what lies in this direction.
pub fn parse(text: &str, now: TimeMs, direction: Direction) -> Result<TimeMs, ParseError> {
    if let Some(amount_ms) = parse_amount(text).or_else(|| parse_relative(text, direction)) {
        let ms = match direction {
            Direction::Ago => now.0.checked_sub(amount_ms),
            Direction::Ahead => now.0.checked_add(amount_ms),
        };
        // A sum that does not fit lies outside the range as well.
        return Ok(TimeMs::new(ms.unwrap_or(i64::MIN))?);
    }
    parse_rfc3339(text)
}

/// Reads RFC 3339 or a date alone.
pub fn parse_rfc3339(text: &str) -> Result<TimeMs, ParseError> {
    let malformed = || ParseError::Format {
        actual: text.chars().take(80).collect(),
    };
    // prost's parser also takes what RFC 3339 does not, such as a time without a zone.
    if !has_rfc3339_shape(text) {
        return Err(malformed());
    }
    let timestamp: Timestamp = text.parse().map_err(|_| malformed())?;
    Ok(from_wire(timestamp)?)
}

/// As RFC 3339 in UTC, to the millisecond where it is not a whole second.
pub fn format(time: TimeMs) -> String {
    to_wire(time).to_string()
}

/// How long before `now` something was, or how far ahead it lies: `just now`, `3 minutes ago`,
/// `in 2 days`.
pub fn relative(time: TimeMs, now: TimeMs) -> String {
    let distance = time.0.saturating_sub(now.0);
    let (ms, ago) = (distance.saturating_abs(), distance < 0);
    let (count, unit) = match ms {
        ..MINUTE_MS => return "just now".to_owned(),
        MINUTE_MS..HOUR_MS => (ms / MINUTE_MS, "minute"),
        HOUR_MS..DAY_MS => (ms / HOUR_MS, "hour"),
        DAY_MS..MONTH_MS => (ms / DAY_MS, "day"),
        MONTH_MS..YEAR_MS => (ms / MONTH_MS, "month"),
        YEAR_MS.. => (ms / YEAR_MS, "year"),
    };
    let plural = if count == 1 { "" } else { "s" };
    if ago {
        format!("{count} {unit}{plural} ago")
    } else {
        format!("in {count} {unit}{plural}")
    }
}

pub(crate) fn to_wire(time: TimeMs) -> Timestamp {
    Timestamp {
        seconds: time.0.div_euclid(SECOND_MS),
        nanos: i32::try_from(time.0.rem_euclid(SECOND_MS) * 1_000_000)
            .expect("below a second there are fewer than 10^9 nanoseconds"),
    }
}

/// Parts of a millisecond are cut off.
pub(crate) fn from_wire(timestamp: Timestamp) -> Result<TimeMs, memorygate_core::time::Error> {
    let ms = timestamp
        .seconds
        .checked_mul(SECOND_MS)
        .and_then(|ms| ms.checked_add(i64::from(timestamp.nanos).div_euclid(1_000_000)));
    TimeMs::new(ms.unwrap_or(if timestamp.seconds < 0 {
        i64::MIN
    } else {
        i64::MAX
    }))
}

/// `2h`, `1d12h`: numbers with units, in milliseconds. `None` if it is not that or does not fit.
pub fn parse_amount(text: &str) -> Option<i64> {
    let mut total: i64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let count: i64 = rest.get(..digits)?.parse().ok()?;
        let unit = rest.get(digits..)?;
        let letters = unit.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit_ms = match unit.get(..letters)? {
            "ms" => 1,
            "s" => SECOND_MS,
            "m" | "min" => MINUTE_MS,
            "h" => HOUR_MS,
            "d" => DAY_MS,
            "w" => 7 * DAY_MS,
            _ => return None,
        };
        total = total.checked_add(count.checked_mul(unit_ms)?)?;
        rest = unit.get(letters..)?;
    }
    (!text.is_empty()).then_some(total)
}

/// `3 days ago` of what was, `in 2 hours` of what lies ahead: one number and its unit, in milliseconds.
fn parse_relative(text: &str, direction: Direction) -> Option<i64> {
    let amount = match direction {
        Direction::Ago => text.strip_suffix(" ago")?,
        Direction::Ahead => text.strip_prefix("in ")?,
    };
    let (count, unit) = amount.split_once(' ')?;
    let unit_ms = match unit.strip_suffix('s').unwrap_or(unit) {
        "second" => SECOND_MS,
        "minute" => MINUTE_MS,
        "hour" => HOUR_MS,
        "day" => DAY_MS,
        "week" => 7 * DAY_MS,
        "month" => MONTH_MS,
        "year" => YEAR_MS,
        _ => return None,
    };
    let is_number = count.bytes().all(|byte| byte.is_ascii_digit());
    let count: i64 = count.parse().ok().filter(|_| is_number)?;
    count.checked_mul(unit_ms)
}

/// `YYYY-MM-DD`, alone or followed by `T`, a time and a zone.
fn has_rfc3339_shape(text: &str) -> bool {
    let bytes = text.as_bytes();
    let date = bytes.len() >= 10
        && bytes[..10].iter().enumerate().all(|(i, b)| match i {
            4 | 7 => *b == b'-',
            _ => b.is_ascii_digit(),
        });
    if !date || bytes.len() == 10 {
        return date;
    }
    let zone = matches!(bytes.last(), Some(b'Z' | b'z'))
        || bytes.len() >= 6 && matches!(bytes[bytes.len() - 6], b'+' | b'-');
    matches!(bytes[10], b'T' | b't' | b' ') && bytes.len() >= 20 && zone
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, direction: Direction) -> String {
        // 2026-01-31T12:00:00Z
        let now = TimeMs(1_769_860_800_000);
        match parse(text, now, direction) {
            Ok(time) => format(time),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        let ago = |text| check(text, Direction::Ago);
        assert_eq!(ago("0s"), "2026-01-31T12:00:00Z");
        assert_eq!(ago("2h"), "2026-01-31T10:00:00Z");
        assert_eq!(ago("1d12h"), "2026-01-30T00:00:00Z");
        assert_eq!(ago("2w"), "2026-01-17T12:00:00Z");
        assert_eq!(ago("250ms"), "2026-01-31T11:59:59.750Z");
        assert_eq!(ago("3 days ago"), "2026-01-28T12:00:00Z");
        assert_eq!(ago("1 hour ago"), "2026-01-31T11:00:00Z");
        assert_eq!(ago("2 weeks ago"), "2026-01-17T12:00:00Z");
        assert_eq!(check("30d", Direction::Ahead), "2026-03-02T12:00:00Z");
        assert_eq!(
            check("in 2 hours", Direction::Ahead),
            "2026-01-31T14:00:00Z"
        );
        assert_eq!(ago("2026-01-06T02:29:14Z"), "2026-01-06T02:29:14Z");
        assert_eq!(ago("2026-01-06T02:29:14+02:00"), "2026-01-06T00:29:14Z");
        assert_eq!(ago("2026-01-06T02:29:14.125Z"), "2026-01-06T02:29:14.125Z");
        assert_eq!(ago("2026-01-06"), "2026-01-06T00:00:00Z");
        assert_eq!(ago("1970-01-01"), "1970-01-01T00:00:00Z");
        assert_eq!(ago("9999-12-31T23:59:59Z"), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        for bad in [
            "",
            "h",
            "2",
            "2 h",
            "-2h",
            "2y",
            "tomorrow",
            "yesterday",
            "in 2 hours",
            "a day ago",
            "-3 days ago",
            "3 ages ago",
            "99999999999999999999 days ago",
            " ago",
            "2026-13-01",
            "2026-1-1",
            "2026-01-06T02:29:14",
            "99999999999999999999d",
            "2026-01-06X02:29:14Z",
        ] {
            let text = check(bad, Direction::Ago);
            assert!(text.contains("is neither RFC 3339"), "{bad:?} gave {text}");
        }
        for outside in ["1969-12-31", "100000d", "99999999999d"] {
            let text = check(outside, Direction::Ago);
            assert!(text.contains("lies outside"), "{outside:?} gave {text}");
        }
    }

    #[test]
    fn ages_read_as_people_say_them() {
        let now = TimeMs(1_769_860_800_000);
        let relative = |ms: i64| relative(TimeMs(now.0 + ms), now);
        assert_eq!(relative(-5000), "just now");
        assert_eq!(relative(-MINUTE_MS), "1 minute ago");
        assert_eq!(relative(-3 * HOUR_MS), "3 hours ago");
        assert_eq!(relative(-DAY_MS), "1 day ago");
        assert_eq!(relative(-65 * DAY_MS), "2 months ago");
        assert_eq!(relative(-800 * DAY_MS), "2 years ago");
        assert_eq!(relative(2 * DAY_MS), "in 2 days");
    }

    proptest! {
        #[test]
        fn an_age_as_it_is_shown_is_read_as_that_age(ms in MINUTE_MS..=55 * YEAR_MS, is_ahead in any::<bool>()) {
            let now = TimeMs(1_769_860_800_000);
            let (ms, direction) = if is_ahead { (ms, Direction::Ahead) } else { (-ms, Direction::Ago) };
            let shown = relative(TimeMs(now.0 + ms), now);
            let read = parse(&shown, now, direction).unwrap();
            prop_assert_eq!(relative(read, now), shown);
        }

        #[test]
        fn a_time_is_read_back_from_its_text(ms in 0..=253_402_300_799_999_i64) {
            let time = TimeMs(ms);
            prop_assert_eq!(parse_rfc3339(&format(time)), Ok(time));
            prop_assert_eq!(from_wire(to_wire(time)), Ok(time));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            let _ = parse(&text, TimeMs(0), Direction::Ago);
        }
    }
}
