//! Reads what is typed on a command line: durations, rates, shares, stalls.
//!
//! Pure text in, numbers out; error texts name the accepted forms.

use std::time::Duration;

/// `10ms`, `2s`, `1.5s`, `500us`, `5m`, `2h`, `20ns`; a bare `0` is allowed.
///
/// # Errors
/// A sentence that names the accepted forms.
pub fn duration(text: &str) -> Result<Duration, String> {
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    let number: f64 = number.parse().map_err(|_| bad_duration(text))?;
    let unit_s = match unit {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "" if number == 0.0 => 1.0,
        _ => return Err(bad_duration(text)),
    };
    Duration::try_from_secs_f64(number * unit_s).map_err(|_| bad_duration(text))
}

fn bad_duration(text: &str) -> String {
    format!("{text:?} is no duration; write a number and ns, us, ms, s, m or h, such as 10ms")
}

/// A probability between 0 and 1: `0.01`, or `1%`.
///
/// # Errors
/// A sentence that names the accepted forms.
pub fn share(text: &str) -> Result<f64, String> {
    let bad = || format!("{text:?} is no share; write a number from 0 to 1, or 1%");
    let value: f64 = match text.strip_suffix('%') {
        Some(percent) => percent.parse::<f64>().map_err(|_| bad())? / 100.0,
        None => text.parse().map_err(|_| bad())?,
    };
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err(bad()) }
}

/// A rate per second: `100/s`, or `100`.
///
/// # Errors
/// A sentence that names the accepted forms.
pub fn rate_per_s(text: &str) -> Result<f64, String> {
    let bad = || format!("{text:?} is no rate; write a number above 0, such as 100/s");
    let value: f64 = text.strip_suffix("/s").unwrap_or(text).parse().map_err(|_| bad())?;
    if value > 0.0 && value.is_finite() { Ok(value) } else { Err(bad()) }
}

/// A span in which nothing is answered, relative to the first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// Nanoseconds from the first request to the start of the stall.
    pub start_ns: u64,
    /// Nanoseconds the stall lasts.
    pub length_ns: u64,
}

/// `2s@10s`: two seconds of silence, ten seconds after the first request.
///
/// # Errors
/// A sentence that names the accepted form.
pub fn stall(text: &str) -> Result<Stall, String> {
    let (length, start) = text
        .split_once('@')
        .ok_or_else(|| format!("{text:?} is no stall; write LENGTH@START, such as 2s@10s"))?;
    let as_ns = |span: Duration| span.as_nanos() as u64;
    Ok(Stall { start_ns: as_ns(duration(start)?), length_ns: as_ns(duration(length)?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_every_unit_and_refuse_the_rest() {
        assert_eq!(duration("10ms"), Ok(Duration::from_millis(10)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("500us"), Ok(Duration::from_micros(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        for text in ["", "10", "ms", "-1s", "10 ms", "1d", "1.2.3s"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn shares_and_rates_have_bounds() {
        assert_eq!(share("0.25"), Ok(0.25));
        assert_eq!(share("1%"), Ok(0.01));
        assert!(share("1.01").is_err() && share("-0.1").is_err() && share("NaN").is_err());
        assert_eq!(rate_per_s("100/s"), Ok(100.0));
        assert!(rate_per_s("0/s").is_err() && rate_per_s("inf").is_err());
    }

    #[test]
    fn a_stall_is_length_at_start() {
        let wanted = Stall { start_ns: 10_000_000_000, length_ns: 2_000_000_000 };
        assert_eq!(stall("2s@10s"), Ok(wanted));
        assert!(stall("2s").is_err());
    }
}
