//! From the job's source format to what this crate can read. What it cannot read is refused here, before
//! anything is written, instead of being read as something else.

use thunderhead_config::{CharacterSet, CsvOptions, SourceFormat};

use crate::csv::{CsvDialect, TextEncoding};
use crate::error::SourceError;

impl From<&CsvOptions> for CsvDialect {
    fn from(options: &CsvOptions) -> CsvDialect {
        let text = text_encoding(options.character_set);
        let token = |written: &String| text.token(written);
        CsvDialect {
            separator: token(&options.separator),
            quote: token(&options.quote),
            terminator: token(&options.terminator),
            escape: token(&options.escape),
            nulls: options.nulls.iter().map(token).collect(),
            unquoted_nulls: options.unquoted_nulls.iter().map(token).collect(),
            not_null: options.not_null,
            header: options.header,
            trim_last_separator: options.trim_last_separator,
            skip_lines: options.skip_lines,
            starting: token(&options.starting),
            lenient: options.lenient,
            skip_malformed: false,
            text,
            invalid: options.invalid_char_replace.clone(),
        }
    }
}

pub(crate) fn text_encoding(set: CharacterSet) -> TextEncoding {
    match set {
        CharacterSet::Binary | CharacterSet::Utf8mb4 | CharacterSet::Ascii => TextEncoding::AsIs,
        CharacterSet::Gb18030 => TextEncoding::Gb18030,
        CharacterSet::Gbk => TextEncoding::Gbk,
        CharacterSet::Latin1 => TextEncoding::Latin1,
    }
}

/// The dialect of a CSV file of `format`, if it is one that can be read.
pub fn dialect_of(format: &SourceFormat) -> Result<CsvDialect, SourceError> {
    let dialect = CsvDialect {
        skip_malformed: format.skip_malformed,
        ..CsvDialect::from(&format.csv)
    };
    dialect.check()?;
    Ok(dialect)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use thunderhead_config::FileFormat;
    use thunderhead_types::{Error, ErrorKind};

    fn format() -> SourceFormat {
        SourceFormat::new(FileFormat::Csv, CsvOptions::default())
    }

    #[test]
    fn the_default_options_are_the_default_dialect() {
        assert_eq!(dialect_of(&format()).unwrap(), CsvDialect::default());
    }

    #[test]
    fn tokens_are_bytes_of_the_files_character_set() {
        let mut german = format();
        german.csv.separator = "§".into();
        german.csv.character_set = CharacterSet::Latin1;
        assert_eq!(dialect_of(&german).unwrap().separator, [0xa7]);
        german.csv.character_set = CharacterSet::Gbk;
        assert_eq!(dialect_of(&german).unwrap().separator, [0xa1, 0xec]);
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let mut other = format();
        other.csv.quote = ",".into();
        let error = Error::from(dialect_of(&other).unwrap_err());
        assert_eq!(error.kind, ErrorKind::Config);
    }
}
