//! The dialect that a configuration asks for.

use super::CsvDialect;
use thunderhead_config::CsvOptions;

impl From<&CsvOptions> for CsvDialect {
    fn from(options: &CsvOptions) -> Self {
        let bytes = |text: &str| text.as_bytes().to_vec();
        Self {
            separator: bytes(&options.separator),
            quote: bytes(&options.quote),
            terminator: bytes(&options.terminator),
            escape: bytes(&options.escape),
            nulls: options.nulls.iter().map(|text| bytes(text)).collect(),
            not_null: options.not_null,
            // As Lightning: quotes do not protect a NULL text.
            quoted_null_is_text: false,
            header: options.header,
            trim_last_separator: options.trim_last_separator,
        }
    }
}
