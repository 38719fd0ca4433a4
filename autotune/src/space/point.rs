//! Points of a space and their ids.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A point: a value for each axis. Its id is the axes in the order of their names, `bk=64,bm=128,...`, so it is the same however
/// a template lists them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Point(BTreeMap<String, String>);

/// Not the id of a point.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no point: expected axis=value,axis=value with each axis once")]
pub struct PointError(String);

impl Point {
    /// A point of these axes; a later value of the same axis replaces an earlier one.
    pub fn new<K: Into<String>, V: Into<String>>(axes: impl IntoIterator<Item = (K, V)>) -> Self {
        Point(axes.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }

    /// The value of an axis.
    pub fn get(&self, axis: &str) -> Option<&str> {
        self.0.get(axis).map(String::as_str)
    }

    /// The same with another value of an axis.
    pub fn with(&self, axis: &str, value: impl Into<String>) -> Self {
        let mut axes = self.0.clone();
        axes.insert(axis.to_string(), value.into());
        Point(axes)
    }

    /// Axes and values by ascending name.
    pub fn axes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (axis, value)) in self.axes().enumerate() {
            write!(f, "{}{axis}={value}", if i > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl FromStr for Point {
    type Err = PointError;

    fn from_str(text: &str) -> Result<Self, PointError> {
        let refused = || PointError(text.to_string());
        let mut axes = BTreeMap::new();
        for part in text.split(',') {
            let (axis, value) = part.split_once('=').filter(|(a, v)| !a.is_empty() && !v.is_empty()).ok_or_else(refused)?;
            if axes.insert(axis.to_string(), value.to_string()).is_some() {
                return Err(refused());
            }
        }
        Ok(Point(axes))
    }
}

impl TryFrom<String> for Point {
    type Error = PointError;

    fn try_from(text: String) -> Result<Self, PointError> {
        text.parse()
    }
}

impl From<Point> for String {
    fn from(point: Point) -> String {
        point.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_sorted_and_read_back() {
        let p = Point::new([("stages", "4"), ("bm", "128")]);
        assert_eq!(p.to_string(), "bm=128,stages=4");
        assert_eq!("stages=4,bm=128".parse(), Ok(p.clone()));
        assert_eq!(p.with("bm", "64").get("bm"), Some("64"));
        for bad in ["", "bm", "bm=", "=1", "bm=1,bm=2", "bm=1,"] {
            assert!(bad.parse::<Point>().is_err(), "{bad}");
        }
    }
}
