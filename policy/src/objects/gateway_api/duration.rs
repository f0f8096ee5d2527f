//! Lengths of time as GEP-2257 writes them.

use std::time::Duration;

/// Parts such as `10s` in one text.
const PARTS_MAX: usize = 4;

/// Digits of one part.
const DIGITS_MAX: usize = 5;

/// A duration: one to four parts, each a number of at most five digits and `h`, `m`, `s` or `ms`, such as `1m30s`. The error
/// says what is wrong.
pub fn duration(text: &str) -> Result<Duration, String> {
    let unreadable = || format!("\"{text}\" is not a duration such as 10s, 1m30s or 500ms");
    let mut total = Duration::ZERO;
    let mut rest = text;
    let mut parts = 0;
    while !rest.is_empty() || parts == 0 {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| unreadable())?;
        parts += 1;
        if digits > DIGITS_MAX || parts > PARTS_MAX {
            return Err(unreadable());
        }
        let (unit_ms, after) = if let Some(after) = unit.strip_prefix("ms") {
            (1, after)
        } else if let Some(after) = unit.strip_prefix('h') {
            (3_600_000, after)
        } else if let Some(after) = unit.strip_prefix('m') {
            (60_000, after)
        } else if let Some(after) = unit.strip_prefix('s') {
            (1_000, after)
        } else {
            return Err(unreadable());
        };
        total += Duration::from_millis(number * unit_ms);
        rest = after;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_gep_2257_writes_them() {
        let ms = |text: &str| duration(text).map(|duration| duration.as_millis());
        assert_eq!(ms("0s"), Ok(0));
        assert_eq!(ms("500ms"), Ok(500));
        assert_eq!(ms("1m30s"), Ok(90_000));
        assert_eq!(ms("1h2m3s4ms"), Ok(3_723_004));
        assert_eq!(ms("99999h"), Ok(99_999 * 3_600_000));
        for text in ["", "10", "s", "1.5s", "-1s", "1d", "100000s", "1s1s1s1s1s", "1 s", "1s "] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }
}
