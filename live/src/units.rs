//! Numbers for people: durations, counts, bytes, shares, each with its unit and at most four
//! significant digits. Pure.

/// A duration with a unit that fits: `183 µs`, `12.4 ms`, `1.25 s`, `2 min 5 s`.
pub fn duration(ns: u64) -> String {
    duration_f64(ns as f64)
}

/// As [`duration`], of a fraction of nanoseconds such as a mean.
pub fn duration_f64(ns: f64) -> String {
    let seconds = ns / 1e9;
    if ns < 1_000.0 {
        format!("{ns:.0} ns")
    } else if ns < 999_500.0 {
        format!("{} µs", three(ns / 1e3))
    } else if ns < 999_500_000.0 {
        format!("{} ms", three(ns / 1e6))
    } else if seconds < 99.95 {
        format!("{} s", three(seconds))
    } else {
        let whole = seconds.round() as u64;
        let (hours, minutes, rest) = (whole / 3_600, whole / 60 % 60, whole % 60);
        match (hours, minutes, rest) {
            (0, minutes, 0) => format!("{minutes} min"),
            (0, minutes, rest) => format!("{minutes} min {rest} s"),
            (hours, 0, _) => format!("{hours} h"),
            (hours, minutes, _) => format!("{hours} h {minutes} min"),
        }
    }
}

/// A duration of a round number, for the tick of an axis: `1 ms`, not `1.00 ms`.
pub fn tick(ns: f64) -> String {
    let text = duration_f64(ns);
    match text.split_once(' ') {
        Some((number, unit)) if number.contains('.') => {
            format!("{} {unit}", number.trim_end_matches('0').trim_end_matches('.'))
        }
        _ => text,
    }
}

/// Three significant digits, no more than two decimals.
fn three(value: f64) -> String {
    if value >= 99.95 {
        format!("{value:.0}")
    } else if value >= 9.995 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// A whole number with thousands separated: `100,000`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate without its `/s`: whole above 100, else with as many decimals as it needs.
pub fn rate(per_s: f64) -> String {
    if per_s >= 99.95 {
        count(per_s.round() as u64)
    } else if per_s.fract() == 0.0 {
        format!("{per_s:.0}")
    } else {
        three(per_s)
    }
}

/// Bytes in binary units: `50.6 MiB`; negative ones with their sign.
pub fn bytes(bytes: f64) -> String {
    let sign = if bytes < 0.0 { "-" } else { "" };
    let size = bytes.abs();
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut scaled = size;
    let mut unit = 0;
    while scaled >= 1_023.5 && unit + 1 < units.len() {
        scaled /= 1_024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{sign}{scaled:.0} B"),
        _ => format!("{sign}{} {}", three(scaled), units[unit]),
    }
}

/// A share as a percentage. It never rounds up to 100 %: one failure in a million shows.
pub fn share(share: f64) -> String {
    let percent = share * 100.0;
    if share < 1.0 && percent > 99.99 {
        let decimals = (2..12).find(|n| format!("{percent:.n$}").parse() != Ok(100.0));
        return format!("{percent:.*} %", decimals.unwrap_or(12));
    }
    match percent {
        0.0 => "0 %".to_owned(),
        100.0 => "100 %".to_owned(),
        percent if percent < 0.01 => "< 0.01 %".to_owned(),
        percent => format!("{percent:.2} %"),
    }
}

/// A value of a threshold in its base unit.
pub fn in_unit(value: f64, unit: &str) -> String {
    match unit {
        "ns" => duration_f64(value),
        "%" => share(value / 100.0),
        "/s" => format!("{}/s", rate(value)),
        "%/h" => format!("{value:.1} %/h"),
        _ => count(value as u64),
    }
}

/// A name of the files, for a sentence to begin with: `node_loss` is `Node loss`.
pub fn words(name: &str) -> String {
    let mut letters = name.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect::<String>().replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits_and_a_unit_that_fits() {
        for (ns, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_234, "1.23 µs"),
            (183_400, "183 µs"),
            (999_499, "999 µs"),
            (999_500, "1.00 ms"),
            (12_440_000, "12.4 ms"),
            (1_250_000_000, "1.25 s"),
            (60_000_000_000, "60.0 s"),
            (125_000_000_000, "2 min 5 s"),
            (7_200_000_000_000, "2 h"),
        ] {
            assert_eq!(duration(ns), text);
        }
    }

    #[test]
    fn a_tick_has_no_idle_zeros() {
        for (ns, text) in [(1e6, "1 ms"), (5e4, "50 µs"), (1.5e9, "1.5 s"), (2e8, "200 ms")] {
            assert_eq!(tick(ns), text);
        }
    }

    #[test]
    fn a_failure_never_disappears_in_rounding() {
        assert_eq!(share(1.0), "100 %");
        assert_eq!(share(0.999_999), "99.9999 %");
        assert_eq!(share(0.999_999_99), "99.999999 %");
        assert_eq!(share(0.953_21), "95.32 %");
        assert_eq!(share(0.000_001), "< 0.01 %");
    }

    #[test]
    fn counts_rates_and_bytes() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(999), "999");
        assert_eq!(rate(3_000.4), "3,000");
        assert_eq!(rate(12.0), "12");
        assert_eq!(bytes(1_048_576.0 * 50.6), "50.6 MiB");
        assert_eq!(bytes(-2_048.0), "-2.00 KiB");
    }
}
