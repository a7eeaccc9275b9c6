//! Calendar dates and times in UTC. Time zones, leap seconds and parsing are not supported.

use std::time::{SystemTime, UNIX_EPOCH};

/// Date and time in UTC, in the Gregorian calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Utc {
    /// Year, e.g. 2026.
    pub year: u64,
    /// Month, 1 to 12.
    pub month: u64,
    /// Day of the month, 1 to 31.
    pub day: u64,
    /// Hour, 0 to 23.
    pub hour: u64,
    /// Minute, 0 to 59.
    pub minute: u64,
    /// Second, 0 to 59.
    pub second: u64,
}

/// Formats a time in UTC as `2026-01-02T03:04:05Z` (RFC 3339).
pub fn timestamp(time: SystemTime) -> String {
    Utc::at(time).rfc3339()
}

impl Utc {
    /// Converts a system time. A time before 1970 becomes 1970-01-01T00:00:00Z.
    pub fn at(time: SystemTime) -> Self {
        let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let (year, month, day) = civil_from_days(seconds / 86_400);
        let second = seconds % 86_400;
        Self { year, month, day, hour: second / 3600, minute: second / 60 % 60, second: second % 60 }
    }

    /// Formats the time as `20260102-030405`, e.g. for directory names.
    pub fn compact(self) -> String {
        let Self { year, month, day, hour, minute, second } = self;
        format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
    }

    /// Formats the time as `2026-01-02T03:04:05Z` (RFC 3339).
    pub fn rfc3339(self) -> String {
        let Self { year, month, day, hour, minute, second } = self;
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// Returns the year, month and day of the date `days` days after 1970-01-01.
///
/// Implements `civil_from_days` of Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", for dates from 1970
/// on. In this algorithm, years begin in March, so that the leap day is the last day of the year. An era is the 400
/// years after which the calendar repeats.
pub fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// Returns the number of days from 1970-01-01 to a date in the Gregorian calendar; negative for dates before 1970.
///
/// Implements `days_from_civil` of Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
pub fn days_from_civil(year: i64, month: u8, day: u8) -> i64 {
    let (month, day) = (i64::from(month), i64::from(day));
    // Years begin in March, so that the leap day is the last day of the year.
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let march_month = (month + 9) % 12;
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Returns the number of days in a month of the Gregorian calendar, or `None` if `month` is not from 1 to 12.
pub fn days_in_month(year: u16, month: u8) -> Option<u8> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 => Some(28 + u8::from(leap)),
        4 | 6 | 9 | 11 => Some(30),
        1..=12 => Some(31),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn text(seconds: u64) -> String {
        Utc::at(UNIX_EPOCH + Duration::from_secs(seconds)).rfc3339()
    }

    /// The expected values are the output of `date -u -d @SECONDS`.
    #[test]
    fn known_dates_match_gnu_date() {
        assert_eq!(text(0), "1970-01-01T00:00:00Z");
        assert_eq!(text(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(text(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(text(951_868_800), "2000-03-01T00:00:00Z");
        assert_eq!(text(1_767_322_999), "2026-01-02T03:03:19Z");
        assert_eq!(text(4_107_542_399), "2100-02-28T23:59:59Z");
        assert_eq!(text(4_107_542_400), "2100-03-01T00:00:00Z");
        assert_eq!(Utc::at(UNIX_EPOCH + Duration::from_secs(1_767_322_999)).compact(), "20260102-030319");
    }

    /// Compares each day of 400 years with a calendar that is advanced day by day.
    #[test]
    fn every_day_of_400_years_follows_the_previous_one() {
        let mut expected = (1970, 1, 1);
        for day in 0..146_097 {
            assert_eq!(civil_from_days(day), expected, "day {day}");
            let (year, month, date) = expected;
            assert_eq!(days_from_civil(year as i64, month as u8, date as u8), day as i64);
            let length = u64::from(days_in_month(year as u16, month as u8).unwrap());
            expected = match (month, date) {
                (12, 31) => (year + 1, 1, 1),
                (_, last) if last == length => (year, month + 1, 1),
                _ => (year, month, date + 1),
            };
        }
    }

    #[test]
    fn days_before_1970_are_negative() {
        assert_eq!(days_from_civil(1969, 12, 31), -1);
        assert_eq!(days_from_civil(2012, 1, 1) - days_from_civil(1957, 1, 1), 20_088);
    }

    #[test]
    fn time_before_1970_becomes_1970() {
        assert_eq!(Utc::at(UNIX_EPOCH - Duration::from_secs(5)).rfc3339(), "1970-01-01T00:00:00Z");
    }
}
