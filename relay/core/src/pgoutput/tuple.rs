//! A row's values, as a view into the message.

use bytes::Bytes;

use super::DecodeError;
use super::reader::Reader;

/// One value of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datum<'a> {
    /// SQL NULL.
    Null,
    /// A large value that an update did not touch; it is not in the stream.
    Unchanged,
    /// The type's text output.
    Text(&'a [u8]),
    /// The type's binary output.
    Binary(&'a [u8]),
}

impl<'a> Datum<'a> {
    /// The bytes of its value, where it has one.
    #[must_use]
    pub fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Null | Self::Unchanged => None,
            Self::Text(bytes) | Self::Binary(bytes) => Some(bytes),
        }
    }
}

/// What stands in front of the content of a logical message in the place of a value's kind. No value of a row has it.
const CONTENT: u8 = 0;

/// Where a value stands in its row, so that it is found again without passing over those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    kind: u8,
    start: u32,
    end: u32,
}

/// The values of a row, checked when it was read.
#[derive(Debug, Clone)]
pub struct Tuple {
    columns: usize,
    data: Bytes,
}

impl Tuple {
    /// Reads the row at the front and checks that every value in it is complete.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let columns = usize::from(reader.u16("the number of values")?);
        let data = reader.view();
        for _ in 0..columns {
            datum(reader)?;
        }
        Ok(Self { columns, data })
    }

    /// Reads the content of a logical message as a row of one value. In front of a length, where a value has its kind, it has
    /// the zero that ends the prefix: so it is a view, too.
    pub(super) fn read_content(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let data = reader.view();
        reader.u8("the end of the message's prefix")?;
        sized(reader)?;
        Ok(Self { columns: 1, data })
    }

    /// A row of values in binary form, read from elsewhere than the stream; `None` is NULL.
    pub fn from_values<'a>(values: impl Iterator<Item = Option<&'a [u8]>>) -> Self {
        let mut data = Vec::new();
        let mut columns = 0;
        for value in values {
            columns += 1;
            match value.map(|value| (u32::try_from(value.len()), value)) {
                Some((Ok(length), value)) => {
                    data.push(b'b');
                    data.extend(length.to_be_bytes());
                    data.extend(value);
                }
                // Postgres has no value of 4 GiB.
                Some((Err(_), _)) | None => data.push(b'n'),
            }
        }
        Self { columns, data: data.into() }
    }

    /// The same row in memory of its own.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self { columns: self.columns, data: Bytes::copy_from_slice(&self.data) }
    }

    /// How many values it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.columns
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.columns == 0
    }

    /// The bytes of the row as they came, which is what it weighs in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Its values, in the order of the table's columns.
    pub fn iter(&self) -> impl Iterator<Item = Datum<'_>> {
        let mut reader = Reader::new(&self.data);
        (0..self.columns).map_while(move |_| match reader.u8("a value's kind").ok()? {
            CONTENT => sized(&mut reader).map(Datum::Binary).ok(),
            kind => datum_of(kind, &mut reader).ok(),
        })
    }

    /// Finds its values; `into` has one place for each column then.
    pub fn find(&self, into: &mut Vec<Place>) {
        into.clear();
        let data = &self.data[..];
        let mut at = 0_usize;
        for _ in 0..self.columns {
            let Some(&kind) = data.get(at) else { return };
            let length = match kind {
                b't' | b'b' | CONTENT => data.get(at + 1..at + 5).and_then(|length| length.try_into().ok()),
                _ => None,
            };
            let start = at + if length.is_some() { 5 } else { 1 };
            let end = start + length.map_or(0, |length| u32::from_be_bytes(length) as usize);
            // A message of Postgres has less than a gibibyte.
            let (Ok(start), Ok(place_end)) = (u32::try_from(start), u32::try_from(end)) else { return };
            into.push(Place { kind, start, end: place_end });
            at = end;
        }
    }

    /// The value at a place that [`find`](Self::find) found in this row.
    #[must_use]
    pub fn datum(&self, place: &Place) -> Datum<'_> {
        let value = self.data.get(place.start as usize..place.end as usize).unwrap_or_default();
        match place.kind {
            b't' => Datum::Text(value),
            b'b' | CONTENT => Datum::Binary(value),
            b'u' => Datum::Unchanged,
            _ => Datum::Null,
        }
    }
}

fn datum<'a>(reader: &mut Reader<'a>) -> Result<Datum<'a>, DecodeError> {
    let kind = reader.u8("a value's kind")?;
    datum_of(kind, reader)
}

fn datum_of<'a>(kind: u8, reader: &mut Reader<'a>) -> Result<Datum<'a>, DecodeError> {
    match kind {
        b'n' => Ok(Datum::Null),
        b'u' => Ok(Datum::Unchanged),
        b't' => sized(reader).map(Datum::Text),
        b'b' => sized(reader).map(Datum::Binary),
        kind => Err(DecodeError::UnknownKind { what: "value", kind }),
    }
}

fn sized<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
    let length = reader.u32("a value's length")?;
    let length = usize::try_from(length).map_err(|_| DecodeError::Truncated("a value"))?;
    reader.bytes(length, "a value")
}
