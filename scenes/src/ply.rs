//! Reading scans in the PLY format: `binary_little_endian` and `ascii`, one element `vertex` with x, y, z and perhaps an intensity.

use crate::lidar::Point;

/// A file that is no scan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlyError {
    /// No header, or not one of a PLY file.
    #[error("not a PLY file: {0}")]
    Header(String),
    /// A header line that makes no sense.
    #[error("line {line}: `{text}`: {why}")]
    Line {
        /// From 1.
        line: usize,
        /// What it says.
        text: String,
        /// What was expected.
        why: &'static str,
    },
    /// An order of bytes other than the two.
    #[error("format `{0}`: expected binary_little_endian or ascii")]
    Format(String),
    /// No vertices, or vertices without a place.
    #[error("no {0}: a scan has an element vertex with properties x, y and z")]
    Missing(&'static str),
    /// Fewer vertices than the header says.
    #[error("the file ends within vertex {row} of {rows}")]
    Short {
        /// From 0.
        row: usize,
        /// What the header says.
        rows: usize,
    },
    /// An ascii number that is none.
    #[error("vertex {row}: `{text}` is no number")]
    Number {
        /// From 0.
        row: usize,
        /// What stands there.
        text: String,
    },
}

/// A number type of PLY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scalar {
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    F32,
    F64,
}

/// A header that has been read.
struct Header {
    ascii: bool,
    rows: usize,
    properties: Vec<(String, Scalar)>,
    /// Where the data begins.
    data: usize,
}

/// Reads the vertices of a file: x, y, z, and `intensity` or `scalar_intensity` where there is one, else 0.
pub fn read_ply(bytes: &[u8]) -> Result<Vec<Point>, PlyError> {
    let header = Header::read(bytes)?;
    let place = |name: &str| header.properties.iter().position(|p| p.0 == name);
    let [x, y, z] =
        [("x", "property x"), ("y", "property y"), ("z", "property z")].map(|(n, m)| place(n).ok_or(PlyError::Missing(m)));
    let columns = [Some(x?), Some(y?), Some(z?), place("intensity").or_else(|| place("scalar_intensity"))];
    let data = &bytes[header.data..];
    let rows = if header.ascii { header.ascii_rows(data)? } else { header.binary_rows(data)? };
    Ok(rows.iter().map(|row| columns.map(|c| c.map_or(0.0, |c| row[c] as f32))).collect())
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self, PlyError> {
        let no = |why: &str| PlyError::Header(why.into());
        let (mut data, mut number) = (0, 0);
        let (mut format, mut element, mut rows) = (None, String::new(), None);
        let mut properties = Vec::new();
        loop {
            let rest = &bytes[data..];
            let end = rest.iter().position(|b| *b == b'\n').ok_or_else(|| no("its header has no end"))?;
            let text = std::str::from_utf8(&rest[..end]).map_err(|_| no("its header is no text"))?.trim_end();
            (data, number) = (data + end + 1, number + 1);
            let line = |why| PlyError::Line { line: number, text: text.into(), why };
            let words: Vec<&str> = text.split_whitespace().collect();
            match (number, words.as_slice()) {
                (1, ["ply"]) => {}
                (1, _) => return Err(no("it does not begin with `ply`")),
                (_, [] | ["comment" | "obj_info", ..]) => {}
                (_, ["format", name, _]) => format = Some((*name).to_string()),
                (_, ["element", name, count]) => {
                    // Data lies in the order of the elements, and only the first is read.
                    if rows.is_none() && *name != "vertex" {
                        return Err(line("expected element vertex first"));
                    }
                    let count = count.parse().map_err(|_| line("expected a count"))?;
                    rows = rows.or(Some(count));
                    element = (*name).into();
                }
                (_, ["property", ..]) if element != "vertex" => {
                    if element.is_empty() {
                        return Err(line("expected an element before its properties"));
                    }
                }
                (_, ["property", kind, name]) => {
                    properties.push(((*name).into(), Scalar::of(kind).ok_or_else(|| line("expected a type of PLY, no list"))?));
                }
                (_, ["end_header"]) => break,
                _ => return Err(line("expected format, element, property, comment or end_header")),
            }
        }
        let ascii = match format.as_deref() {
            Some("binary_little_endian") => false,
            Some("ascii") => true,
            other => return Err(PlyError::Format(other.unwrap_or("none given").into())),
        };
        Ok(Header { ascii, rows: rows.ok_or(PlyError::Missing("element vertex"))?, properties, data })
    }

    fn binary_rows(&self, data: &[u8]) -> Result<Vec<Vec<f64>>, PlyError> {
        let bytes: usize = self.properties.iter().map(|p| p.1.bytes()).sum();
        let whole = data.len() / bytes.max(1);
        if whole < self.rows {
            return Err(PlyError::Short { row: whole, rows: self.rows });
        }
        let row = |mut row: &[u8]| {
            let mut numbers = Vec::with_capacity(self.properties.len());
            for (_, scalar) in &self.properties {
                let (head, rest) = row.split_at(scalar.bytes());
                numbers.push(scalar.read(head));
                row = rest;
            }
            numbers
        };
        Ok(data.chunks_exact(bytes).take(self.rows).map(row).collect())
    }

    fn ascii_rows(&self, data: &[u8]) -> Result<Vec<Vec<f64>>, PlyError> {
        let text = String::from_utf8_lossy(data);
        let mut words = text.split_ascii_whitespace();
        let mut list = Vec::new();
        for row in 0..self.rows {
            let mut numbers = Vec::with_capacity(self.properties.len());
            for _ in &self.properties {
                let word = words.next().ok_or(PlyError::Short { row, rows: self.rows })?;
                numbers.push(word.parse().map_err(|_| PlyError::Number { row, text: word.into() })?);
            }
            list.push(numbers);
        }
        Ok(list)
    }
}

impl Scalar {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "char" | "int8" => Scalar::I8,
            "uchar" | "uint8" => Scalar::U8,
            "short" | "int16" => Scalar::I16,
            "ushort" | "uint16" => Scalar::U16,
            "int" | "int32" => Scalar::I32,
            "uint" | "uint32" => Scalar::U32,
            "float" | "float32" => Scalar::F32,
            "double" | "float64" => Scalar::F64,
            _ => return None,
        })
    }

    fn bytes(self) -> usize {
        match self {
            Scalar::I8 | Scalar::U8 => 1,
            Scalar::I16 | Scalar::U16 => 2,
            Scalar::I32 | Scalar::U32 | Scalar::F32 => 4,
            Scalar::F64 => 8,
        }
    }

    /// A number of exactly its bytes.
    fn read(self, b: &[u8]) -> f64 {
        let four = || [b[0], b[1], b[2], b[3]];
        match self {
            Scalar::I8 => f64::from(b[0] as i8),
            Scalar::U8 => f64::from(b[0]),
            Scalar::I16 => f64::from(i16::from_le_bytes([b[0], b[1]])),
            Scalar::U16 => f64::from(u16::from_le_bytes([b[0], b[1]])),
            Scalar::I32 => f64::from(i32::from_le_bytes(four())),
            Scalar::U32 => f64::from(u32::from_le_bytes(four())),
            Scalar::F32 => f64::from(f32::from_le_bytes(four())),
            Scalar::F64 => f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "ply\nformat ascii 1.0\ncomment x\nelement vertex 2\nproperty float x\nproperty double y\nproperty short z\n\
                        property uchar intensity\nend_header\n";

    #[test]
    fn both_formats_give_the_same_points() {
        let expected = vec![[1.5, -2.0, 3.0, 7.0], [0.0, 0.25, -4.0, 255.0]];
        assert_eq!(read_ply(format!("{HEAD}1.5 -2 3 7\n0 0.25 -4 255\n").as_bytes()), Ok(expected.clone()));
        let mut bytes = HEAD.replace("ascii", "binary_little_endian").into_bytes();
        for [x, y, z, i] in &expected {
            bytes.extend(x.to_le_bytes());
            bytes.extend(f64::from(*y).to_le_bytes());
            bytes.extend((*z as i16).to_le_bytes());
            bytes.push(*i as u8);
        }
        assert_eq!(read_ply(&bytes), Ok(expected));
        bytes.pop();
        assert_eq!(read_ply(&bytes), Err(PlyError::Short { row: 1, rows: 2 }));
    }

    #[test]
    fn what_is_no_scan_is_refused() {
        let refused = |text: &str| read_ply(text.as_bytes()).unwrap_err().to_string();
        assert!(refused("solid cube\n").contains("`ply`"));
        assert!(refused("ply\nformat ascii 1.0\n").contains("no end"));
        assert!(refused(&HEAD.replace("ascii", "binary_big_endian")).contains("binary_big_endian"));
        assert!(refused(&HEAD.replace("float x", "float w")).contains("property x"));
        assert!(refused(&HEAD.replace("short z", "list uchar int z")).starts_with("line 7"));
        assert!(refused(&HEAD.replace("vertex 2", "face 2")).contains("vertex first"));
        assert!(refused(&HEAD.replace("vertex 2", "vertex two")).contains("a count"));
        assert!(refused(&format!("{HEAD}1 2 three 4")).contains("vertex 0: `three`"));
        assert!(refused(&format!("{HEAD}1 2 3 4 5 6")).contains("within vertex 1 of 2"));
        assert_eq!(read_ply(HEAD.replace("vertex 2", "vertex 0").as_bytes()), Ok(Vec::new()));
    }
}
