//! Moments on the wire: ISO 8601, RFC 822 and epoch seconds, to and from milliseconds since the Unix epoch.

use crate::model::TimestampFormat;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]; // 1970-01-01 was a Thursday.
const DAY_MS: i64 = 86_400_000;

/// Writes a moment. A fraction stands only when there is one, as AWS does.
pub fn format(time_ms: i64, format: TimestampFormat) -> String {
    let (year, month, day) = civil(time_ms.div_euclid(DAY_MS));
    let in_day = time_ms.rem_euclid(DAY_MS);
    let (hour, minute, second) = (in_day / 3_600_000, in_day / 60_000 % 60, in_day / 1000 % 60);
    let millis = in_day % 1000;
    let fraction = if millis == 0 { String::new() } else { format!(".{millis:03}") };
    match format {
        TimestampFormat::Iso8601 => {
            format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
        }
        TimestampFormat::Rfc822 => {
            let weekday = WEEKDAYS[time_ms.div_euclid(DAY_MS).rem_euclid(7) as usize];
            let month = MONTHS[month as usize - 1];
            format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02}{fraction} GMT")
        }
        TimestampFormat::Unix => {
            let sign = if time_ms < 0 { "-" } else { "" };
            let size = time_ms.unsigned_abs();
            let tail = if size.is_multiple_of(1000) { String::new() } else { format!(".{:03}", size % 1000) };
            format!("{sign}{}{}", size / 1000, tail.trim_end_matches('0'))
        }
    }
}

/// The form of SigV4 dates: `20150830T123600Z`.
pub fn format_basic(time_ms: i64) -> String {
    let text = format(time_ms.div_euclid(1000) * 1000, TimestampFormat::Iso8601);
    text.chars().filter(|c| !matches!(c, '-' | ':')).collect()
}

/// Reads `20150830T123600Z`.
pub fn parse_basic(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || !text.is_ascii() || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let days = days(number(&text[0..4])?, number(&text[4..6])?, number(&text[6..8])?)?;
    let clock = clock(number(&text[9..11])?, number(&text[11..13])?, number(&text[13..15])?)?;
    Some(days * DAY_MS + clock)
}

/// Reads a moment in any of the three forms, told apart by how they look.
pub fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    match text.as_bytes() {
        [b'A'..=b'Z', ..] => parse_rfc822(text),
        [_, _, _, _, b'-', ..] => parse_iso8601(text),
        _ if text.len() == 16 && text.ends_with('Z') => parse_basic(text),
        _ => parse_unix(text),
    }
}

/// Milliseconds from seconds; `None` when out of range.
pub fn from_seconds(seconds: f64) -> Option<i64> {
    let millis = (seconds * 1000.0).round();
    (millis.is_finite() && millis.abs() < 8.64e15).then_some(millis as i64)
}

fn parse_unix(text: &str) -> Option<i64> {
    if !text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'+' | b'e' | b'E')) {
        return None;
    }
    from_seconds(text.parse().ok()?)
}

fn parse_iso8601(text: &str) -> Option<i64> {
    let (date, rest) = text.split_once(['T', 't', ' ']).unwrap_or((text, "00:00:00Z"));
    let mut parts = date.splitn(3, '-');
    let mut part = || number(parts.next()?);
    let days = days(part()?, part()?, part()?)?;
    let zone_at = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
    let (time, zone) = rest.split_at(zone_at);
    Some(days * DAY_MS + parse_clock(time)? - parse_zone(zone)?)
}

fn parse_rfc822(text: &str) -> Option<i64> {
    let mut words = text.split_once(',')?.1.split_whitespace();
    let day = number(words.next()?)?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|m| m.eq_ignore_ascii_case(month))? as i64 + 1;
    let days = days(number(words.next()?)?, month, day)?;
    let clock = parse_clock(words.next()?)?;
    let zone = words.next().unwrap_or("GMT");
    let offset = if matches!(zone, "GMT" | "UTC" | "Z") { 0 } else { parse_zone(zone)? };
    words.next().is_none().then_some(days * DAY_MS + clock - offset)
}

/// `12:34:56` with an optional fraction.
fn parse_clock(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = whole.splitn(3, ':');
    let mut part = || number(parts.next()?);
    let base = clock(part()?, part()?, part()?)?;
    number(fraction)?; // Digits only.
    let millis: String = fraction.chars().chain("00".chars()).take(3).collect();
    Some(base + number(&millis)?)
}

/// `Z`, `+01:00`, `-0330` or nothing, in milliseconds.
fn parse_zone(text: &str) -> Option<i64> {
    let sign = match text.as_bytes().first() {
        None | Some(b'Z' | b'z') if text.len() <= 1 => return Some(0),
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => return None,
    };
    let digits: String = text[1..].chars().filter(|c| *c != ':').collect();
    if digits.len() != 4 || !digits.is_ascii() {
        return None;
    }
    Some(sign * clock(number(&digits[..2])?, number(&digits[2..])?, 0)?)
}

fn number(text: &str) -> Option<i64> {
    if text.is_empty() || text.len() > 18 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn clock(hour: i64, minute: i64, second: i64) -> Option<i64> {
    (hour < 24 && minute < 60 && second <= 60).then(|| ((hour * 60 + minute) * 60 + second) * 1000)
}

/// Days since the epoch of a date in the proleptic Gregorian calendar.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year > 9999 {
        return None;
    }
    // Years that begin in March put the leap day last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = y.div_euclid(400);
    let of_era = y.rem_euclid(400);
    let of_year = (153 * m + 2) / 5 + day - 1;
    let total = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    (civil(total) == (year, month, day)).then_some(total)
}

/// The date of a day since the epoch: year, month, day.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let m = (5 * of_year + 2) / 153;
    let month = if m < 10 { m + 3 } else { m - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, of_year - (153 * m + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_moments() {
        for (ms, iso, rfc, unix) in [
            (0, "1970-01-01T00:00:00Z", "Thu, 01 Jan 1970 00:00:00 GMT", "0"),
            (1_398_796_238_000, "2014-04-29T18:30:38Z", "Tue, 29 Apr 2014 18:30:38 GMT", "1398796238"),
            (
                951_827_696_250,
                "2000-02-29T12:34:56.250Z",
                "Tue, 29 Feb 2000 12:34:56.250 GMT",
                "951827696.25",
            ),
            (-1500, "1969-12-31T23:59:58.500Z", "Wed, 31 Dec 1969 23:59:58.500 GMT", "-1.5"),
        ] {
            assert_eq!(format(ms, TimestampFormat::Iso8601), iso);
            assert_eq!(format(ms, TimestampFormat::Rfc822), rfc);
            assert_eq!(format(ms, TimestampFormat::Unix), unix);
            assert_eq!((parse(iso), parse(rfc), parse(unix)), (Some(ms), Some(ms), Some(ms)));
        }
        assert_eq!(parse_basic("20150830T123600Z"), Some(1_440_938_160_000));
        assert_eq!(format_basic(1_440_938_160_999), "20150830T123600Z");
        assert_eq!(parse("2019-12-17T00:48:18+01:00"), Some(1_576_540_098_000));
        assert_eq!(parse("2019-12-16T22:48:18-01:00"), Some(1_576_540_098_000));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in
            ["", "yesterday", "2015-02-29T00:00:00Z", "2015-13-01T00:00:00Z", "2015-01-01T24:00:00Z", "1e400"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        for text in ["2015-01-01T2222222222222222:13:20Z", "Tue, 14 Nov 2023 999999999999999999:13:20 GMT"] {
            assert_eq!(parse(text), None, "{text}");
        }
        // No part of a text ends within a character.
        for text in
            ["2015-01-01T00:00:00+1\u{e9}0", "Tue, 14 Nov 2023 22:13:20 -1\u{e9}0", "20231114T210\u{8a}lZ"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        for text in ["20150830T123600", "2015083AT123600Z", "20150830 123600Z", "2015083\u{e9}T12360Z"] {
            assert_eq!(parse_basic(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_form_comes_back(ms in -62_135_596_800_000i64..253_402_300_799_000) {
            for form in [TimestampFormat::Iso8601, TimestampFormat::Unix] {
                prop_assert_eq!(parse(&format(ms, form)), Some(ms));
            }
            prop_assert_eq!(parse(&format(ms, TimestampFormat::Rfc822)), Some(ms));
        }

        #[test]
        fn any_text_is_answered(text in ".{0,40}") {
            parse(&text);
            parse_basic(&text);
        }
    }
}
