//! Days of the calendar, as tables of systems write them: `2012-09-30`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

/// Days of a year on average, and so twelve months of 30.4375 days.
pub const DAYS_OF_A_YEAR: f64 = 365.25;

/// Years of which a table's systems can be: a date outside of them is a slip of the pen, and would stretch every picture. They
/// are given rather than taken from the clock, so that a table reads the same on every day.
pub(super) const YEARS: RangeInclusive<u16> = 1900..=2100;

/// A day of the Gregorian calendar, between the years 1 and 9999. In JSON it is text: `"2012-09-30"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

/// Why a text is no day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DateError {
    /// Nothing is written.
    #[error("no date")]
    Missing,
    /// More than one.
    #[error("two dates: {0}")]
    Two(String),
    /// `2012` or `2012-09`.
    #[error("{0} is only a {1}, not a day")]
    Partial(String, &'static str),
    /// Such as February 30.
    #[error("{0} is no day of the calendar")]
    NoDay(String),
    /// Of a year that no system can be of.
    #[error("{0} is not of the years {start} to {end}", start = YEARS.start(), end = YEARS.end())]
    Year(Date),
    /// Anything else.
    #[error("{0:?} is no date of the form 2012-09-30")]
    Text(String),
}

impl Date {
    /// A day; `None` if the calendar has none such.
    pub fn new(year: u16, month: u8, day: u8) -> Option<Self> {
        let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let length = match month {
            2 => 28 + u8::from(leap),
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        let exists = (1..=9999).contains(&year) && (1..=length).contains(&day);
        exists.then_some(Self { year, month, day })
    }

    /// The day of a moment in UTC; `None` after the year 9999.
    pub fn of(time: SystemTime) -> Option<Self> {
        let days = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400);
        let (year, month, day) = wgrad_stdx::date::civil_from_days(days);
        Self::new(year.try_into().ok()?, month.try_into().ok()?, day.try_into().ok()?)
    }

    /// The day, if it is one that a system can be of: from 1900 to 2100.
    ///
    /// # Errors
    /// [`DateError::Year`].
    pub fn of_a_system(self) -> Result<Self, DateError> {
        if YEARS.contains(&self.year) { Ok(self) } else { Err(DateError::Year(self)) }
    }

    /// Days since 1970-01-01: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`.
    pub fn days(self) -> i64 {
        let (month, day) = (i64::from(self.month), i64::from(self.day));
        let year = i64::from(self.year) - i64::from(month <= 2);
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let march_month = (month + 9) % 12;
        let day_of_year = (153 * march_month + 2) / 5 + day - 1;
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
    }

    /// The year with its part that has passed, in years of [`DAYS_OF_A_YEAR`] since 1970: off by a day at most.
    pub fn years(self) -> f64 {
        1970.0 + self.days() as f64 / DAYS_OF_A_YEAR
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

/// What the numbers of `2012-09-30`, `2012-09` or `2012` are, if a text is written so.
fn numbers(text: &str) -> Option<Vec<u16>> {
    let parts: Vec<&str> = text.split('-').collect();
    let digits = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let widths = parts.iter().map(|part| part.len()).eq([4, 2, 2].into_iter().take(parts.len()));
    (widths && parts.iter().all(digits)).then(|| parts.iter().filter_map(|part| part.parse().ok()).collect())
}

impl FromStr for Date {
    type Err = DateError;

    fn from_str(text: &str) -> Result<Self, DateError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(DateError::Missing);
        }
        let words = text.split(|c: char| !c.is_ascii_digit() && c != '-');
        let dates = words.filter_map(numbers).count();
        if dates > 1 {
            return Err(DateError::Two(text.to_owned()));
        }
        let small = |number: u16| number.try_into().unwrap_or(0);
        match numbers(text).as_deref() {
            Some(&[year, month, day]) => {
                Self::new(year, small(month), small(day)).ok_or_else(|| DateError::NoDay(text.to_owned()))
            }
            Some(&[_, _]) => Err(DateError::Partial(text.to_owned(), "year and a month")),
            Some(&[_]) => Err(DateError::Partial(text.to_owned(), "year")),
            _ => Err(DateError::Text(text.to_owned())),
        }
    }
}

impl Serialize for Date {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_count_as_the_calendar_does() {
        let days = |text: &str| text.parse::<Date>().unwrap().days();
        assert_eq!([days("1970-01-01"), days("1969-12-31"), days("2000-03-01")], [0, -1, 11_017]);
        assert_eq!(days("2012-01-01") - days("1957-01-01"), 20_088);
        let date = Date::new(2012, 9, 30).unwrap();
        assert_eq!(date.to_string(), "2012-09-30");
        assert!((date.years() - 2012.75).abs() < 0.005, "{}", date.years());
        assert_eq!(
            Date::of(UNIX_EPOCH + std::time::Duration::from_secs(951_782_400)).unwrap().to_string(),
            "2000-02-29"
        );
    }

    #[test]
    fn what_is_no_day_is_told_apart() {
        let reason = |text: &str| text.parse::<Date>().unwrap_err().to_string();
        assert_eq!(reason(" "), "no date");
        assert_eq!(reason("2012"), "2012 is only a year, not a day");
        assert_eq!(reason("2012-09"), "2012-09 is only a year and a month, not a day");
        for text in
            ["2013-02-29", "2012-02-30", "1900-02-29", "2012-13-01", "2012-00-10", "2012-04-31", "0000-01-01"]
        {
            assert!(reason(text).ends_with("no day of the calendar"), "{text}: {}", reason(text));
        }
        for text in [
            "2012-01-02, 2013-01-02",
            "2012-01-02 2012-01-03",
            "2012-2013",
            "2012-01-02/2013",
            "2012 and 2013",
        ] {
            let reason = reason(text);
            assert!(
                reason.starts_with("two dates") || text == "2012-2013" && reason.contains("no date"),
                "{text}: {reason}"
            );
        }
        for text in ["May 2012", "12-09-30", "2012-9-30", "2012-09-30T00:00", "２０１２-09-30", "-"] {
            assert!(reason(text).contains("is no date of the form"), "{text}: {}", reason(text));
        }
    }
}
