//! Numbers as people read them: bytes, counts, durations.

/// Bytes in binary units with three digits, e.g. `1.50 MiB`.
pub fn bytes(n: u64) -> String {
    scaled(n as f64, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB"])
}

/// A count in decimal units with three digits, e.g. `1.50 M`.
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
}
