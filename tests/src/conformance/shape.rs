//! Where the configuration is carried out.

use std::fmt;
use std::str::FromStr;

/// Where the configuration is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Shape {
    /// In this process: by the layers of the calling client, or by the Gateway role as a task.
    Library,
    /// By the waypoint binary as a process.
    Waypoint,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Library => "library",
            Self::Waypoint => "waypoint",
        })
    }
}

/// One shape or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shapes {
    /// Only this one.
    One(Shape),
    /// Both.
    Both,
}

impl Shapes {
    /// Each of them.
    pub fn each(self) -> Vec<Shape> {
        match self {
            Self::One(shape) => vec![shape],
            Self::Both => vec![Shape::Library, Shape::Waypoint],
        }
    }
}

impl FromStr for Shapes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "library" => Ok(Self::One(Shape::Library)),
            "waypoint" => Ok(Self::One(Shape::Waypoint)),
            "both" => Ok(Self::Both),
            _ => Err(format!("`{text}` is none of library, waypoint, both")),
        }
    }
}
