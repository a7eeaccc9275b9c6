//! Formatting of bytes, counts, durations and percentages for people.

/// Seconds in a minute.
pub const MINUTE: f64 = 60.0;
/// Seconds in an hour.
pub const HOUR: f64 = 60.0 * MINUTE;
/// Seconds in a day.
pub const DAY: f64 = 24.0 * HOUR;
/// Seconds in a year of 365.25 days.
pub const YEAR: f64 = 365.25 * DAY;

/// Formats a number of bytes in binary units with three digits, e.g. `1.50 MiB`.
pub fn bytes(n: u64) -> String {
    scaled(n as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// Formats a count in decimal units with three digits, e.g. `1.50 M`.
pub fn count(n: f64) -> String {
    scaled(n, 1000.0, &["", "k", "M", "G", "T", "P"])
}

fn scaled(mut n: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while n >= step && unit + 1 < units.len() {
        n /= step;
        unit += 1;
    }
    let digits = if unit == 0 || n >= 100.0 { 0 } else { 1 + usize::from(n < 10.0) };
    format!("{n:.digits$} {}", units[unit]).trim_end().to_owned()
}

/// Formats an integer with a comma between groups of three digits.
///
/// ```
/// assert_eq!(wgrad_stdx::format::thousands(1_234_567), "1,234,567");
/// ```
pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Formats a fraction as a percentage with the given number of decimals.
///
/// ```
/// assert_eq!(wgrad_stdx::format::percent(0.1234, 0), "12%");
/// assert_eq!(wgrad_stdx::format::percent(0.1234, 1), "12.3%");
/// ```
pub fn percent(fraction: f64, decimals: usize) -> String {
    format!("{:.decimals$}%", 100.0 * fraction)
}

/// Formats elapsed seconds in the two largest units: `2 h 5 min`, `3 min 20 s`, `12.3 s`.
///
/// ```
/// assert_eq!([7500.0, 200.0, 12.34].map(wgrad_stdx::format::elapsed), ["2 h 5 min", "3 min 20 s", "12.3 s"]);
/// ```
pub fn elapsed(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole / 60 % 60),
    }
}

/// Formats a duration in seconds with two or three digits and one unit, from nanoseconds to trillions of years.
///
/// Returns `unknown` if the duration is negative or not finite.
///
/// ```
/// use wgrad_stdx::format::duration;
///
/// assert_eq!([3.1e-6, 8640.0, 950_400.0].map(duration), ["3.1 µs", "2.4 h", "11 days"]);
/// assert_eq!(duration(4.4e14), "14 million years");
/// ```
pub fn duration(seconds: f64) -> String {
    const UNITS: [(f64, &str, &str); 12] = [
        (1e-9, "ns", "ns"),
        (1e-6, "µs", "µs"),
        (1e-3, "ms", "ms"),
        (1.0, "s", "s"),
        (MINUTE, "min", "min"),
        (HOUR, "h", "h"),
        (DAY, "day", "days"),
        (YEAR, "year", "years"),
        (1e3 * YEAR, "thousand years", "thousand years"),
        (1e6 * YEAR, "million years", "million years"),
        (1e9 * YEAR, "billion years", "billion years"),
        (1e12 * YEAR, "trillion years", "trillion years"),
    ];
    if !seconds.is_finite() || seconds < 0.0 {
        return "unknown".into();
    }
    if seconds == 0.0 {
        return "0 s".into();
    }
    // A value that rounds to 1 of a larger unit is shown in the larger unit: 59.98 s is shown as 1.0 min.
    let fits = |(size, ..): &&(f64, &str, &str)| seconds >= size * 0.9995;
    let (size, one, many) = UNITS.iter().rev().find(fits).unwrap_or(&UNITS[0]);
    let value = seconds / size;
    let text = match value {
        value if value < 9.95 => format!("{value:.1}"),
        value if value < 99999.5 => format!("{value:.0}"),
        value => format!("{value:.1e}"),
    };
    let unit = if text == "1.0" { one } else { many };
    format!("{text} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_counts_have_three_digits() {
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(1536), "1.50 KiB");
        assert_eq!(bytes(200 << 20), "200 MiB");
        assert_eq!(count(1_234_567.0), "1.23 M");
        assert_eq!(count(12.0), "12");
    }

    #[test]
    fn thousands_are_separated_by_commas() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn durations_use_the_largest_unit_that_fits() {
        let cases = [
            (0.0, "0 s"),
            (4e-10, "0.4 ns"),
            (3.14e-6, "3.1 µs"),
            (0.0421, "42 ms"),
            (59.99, "1.0 min"),
            (8640.0, "2.4 h"),
            (86_400.0, "1.0 day"),
            (11.0 * DAY, "11 days"),
            (7.9 * YEAR, "7.9 years"),
            (999.9 * YEAR, "1.0 thousand years"),
            (14e3 * YEAR, "14 thousand years"),
            (3.2e6 * YEAR, "3.2 million years"),
            (5e20 * YEAR, "5.0e8 trillion years"),
            (f64::NAN, "unknown"),
            (f64::INFINITY, "unknown"),
            (-1.0, "unknown"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }
}
