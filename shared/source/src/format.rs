//! From the job's source format to what this crate can read. What it cannot read is refused here, before
//! anything is written, instead of being read as something else.

use thunderhead_config::{CharacterSet, CsvOptions, FileFormat, SourceFormat};

use crate::csv::CsvDialect;
use crate::error::SourceError;

impl From<&CsvOptions> for CsvDialect {
    fn from(options: &CsvOptions) -> CsvDialect {
        let bytes = |text: &String| text.as_bytes().to_vec();
        CsvDialect {
            separator: bytes(&options.separator),
            quote: bytes(&options.quote),
            terminator: bytes(&options.terminator),
            escape: bytes(&options.escape),
            nulls: options.nulls.iter().map(bytes).collect(),
            not_null: options.not_null,
            // As Lightning: quotes do not protect a NULL text.
            quoted_null_is_text: false,
            header: options.header,
            trim_last_separator: options.trim_last_separator,
        }
    }
}

/// The dialect of a file of `format`, if it is one that can be read.
pub fn dialect_of(format: &SourceFormat) -> Result<CsvDialect, SourceError> {
    let unsupported = |what: String| Err(SourceError::Unsupported { what });
    match format.kind {
        FileFormat::Csv => {}
        FileFormat::Sql | FileFormat::Parquet => {
            return unsupported(format!("the file format {:?}", format.kind));
        }
    }
    match format.csv.character_set {
        CharacterSet::Binary | CharacterSet::Utf8mb4 | CharacterSet::Ascii => {}
        other => return unsupported(format!("the character set {other:?}")),
    }
    let dialect = CsvDialect::from(&format.csv);
    dialect.check()?;
    Ok(dialect)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use thunderhead_config::Compression;
    use thunderhead_types::{Error, ErrorKind};

    fn format() -> SourceFormat {
        SourceFormat {
            kind: FileFormat::Csv,
            compression: Compression::None,
            csv: CsvOptions {
                separator: ",".into(),
                quote: "\"".into(),
                terminator: String::new(),
                escape: "\\".into(),
                nulls: vec!["\\N".into()],
                not_null: false,
                header: true,
                header_schema_match: true,
                trim_last_separator: false,
                character_set: CharacterSet::Binary,
                invalid_char_replace: "\u{fffd}".into(),
            },
        }
    }

    #[test]
    fn the_default_options_are_the_default_dialect() {
        assert_eq!(dialect_of(&format()).unwrap(), CsvDialect::default());
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let mut others = [format(), format(), format()];
        others[0].kind = FileFormat::Parquet;
        others[1].csv.character_set = CharacterSet::Gbk;
        others[2].csv.quote = ",".into();
        for (other, kind) in
            others
                .iter()
                .zip([ErrorKind::Precheck, ErrorKind::Precheck, ErrorKind::Config])
        {
            assert_eq!(Error::from(dialect_of(other).unwrap_err()).kind, kind);
        }
    }
}
