//! Publication dates of systems, in the form `2012-09-30`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use wgrad_stdx::ErrorKind;
use wgrad_stdx::date::{days_from_civil, days_in_month};

/// Mean number of days in a year. A mean month has 30.4375 days.
pub const DAYS_PER_YEAR: f64 = 365.25;

/// Plausible publication years of a system. A date outside this range is treated as a typing error, because it would
/// stretch the time axis of every chart. The last year is a constant, so that reading a table does not depend on the
/// clock.
pub(super) const PLAUSIBLE_YEARS: RangeInclusive<u16> = 1900..=2100;

/// Date in the Gregorian calendar, in the years 1 to 9999. In JSON, a date is a string: `"2012-09-30"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

/// Reason why a text is not a plausible date.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DateError {
    /// The text is empty.
    #[error("the date is missing")]
    Missing,
    /// The text contains more than one date.
    #[error("{0:?} contains more than one date; expected one")]
    Two(String),
    /// The text contains only a year, or a year and a month, as `2012` or `2012-09`.
    #[error("{0} is only a {1}; expected a date such as 2012-09-30")]
    Partial(String, &'static str),
    /// The date does not exist in the calendar, e.g. February 30.
    #[error("{0} is not a valid date")]
    NotInCalendar(String),
    /// The year is outside the range that is plausible for a system.
    #[error("{0} is outside the years {start} to {end}", start = PLAUSIBLE_YEARS.start(), end = PLAUSIBLE_YEARS.end())]
    Implausible(Date),
    /// The text does not have the form of a date.
    #[error("{0:?} is not a date of the form 2012-09-30")]
    Text(String),
}

impl DateError {
    /// Returns the kind of the error, from which the command line derives its exit code.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Data
    }
}

impl Date {
    /// Creates a date, or returns `None` if the date does not exist in the calendar.
    pub fn new(year: u16, month: u8, day: u8) -> Option<Self> {
        let exists = (1..=9999).contains(&year) && (1..=days_in_month(year, month)?).contains(&day);
        exists.then_some(Self { year, month, day })
    }

    /// Returns the date if its year is plausible for a system: from 1900 to 2100.
    ///
    /// # Errors
    /// Returns [`DateError::Implausible`] if the year is outside that range.
    pub fn plausible(self) -> Result<Self, DateError> {
        if PLAUSIBLE_YEARS.contains(&self.year) { Ok(self) } else { Err(DateError::Implausible(self)) }
    }

    /// Returns the date as a decimal year, accurate to a day: 2012.75 for 2012-09-30.
    pub fn years(self) -> f64 {
        let days = days_from_civil(i64::from(self.year), self.month, self.day);
        1970.0 + days as f64 / DAYS_PER_YEAR
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

/// Parses the year, month and day of a text of the form `2012-09-30`, `2012-09` or `2012`.
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
            Some(&[year, month, day]) => Self::new(year, small(month), small(day))
                .ok_or_else(|| DateError::NotInCalendar(text.to_owned())),
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
    fn decimal_year_is_accurate_to_a_day() {
        let date = Date::new(2012, 9, 30).unwrap();
        assert_eq!(date.to_string(), "2012-09-30");
        assert!((date.years() - 2012.75).abs() < 0.005, "{}", date.years());
    }

    #[test]
    fn invalid_dates_are_rejected_with_the_reason() {
        let reason = |text: &str| text.parse::<Date>().unwrap_err().to_string();
        assert_eq!(reason(" "), "the date is missing");
        assert_eq!(reason("2012"), "2012 is only a year; expected a date such as 2012-09-30");
        assert_eq!(
            reason("2012-09"),
            "2012-09 is only a year and a month; expected a date such as 2012-09-30"
        );
        for text in
            ["2013-02-29", "2012-02-30", "1900-02-29", "2012-13-01", "2012-00-10", "2012-04-31", "0000-01-01"]
        {
            assert!(reason(text).ends_with("is not a valid date"), "{text}: {}", reason(text));
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
                reason.contains("more than one date") || text == "2012-2013" && reason.contains("not a date"),
                "{text}: {reason}"
            );
        }
        for text in ["May 2012", "12-09-30", "2012-9-30", "2012-09-30T00:00", "２０１２-09-30", "-"] {
            assert!(reason(text).contains("is not a date of the form"), "{text}: {}", reason(text));
        }
    }
}
