//! Table models straight from TiKV. What TiKV holds behind PD and what TiDB's status port shows must
//! be the same, else PD and TiDB are of different clusters and an import would go astray.

use thunderhead_codec::keys;
use thunderhead_types::{Error, ErrorKind, Result};

use crate::importer::Importer;

impl Importer {
    /// The JSON of the table's model as of now; `None` if the cluster has no such table.
    pub async fn meta_table_json(&self, schema_id: i64, table_id: i64) -> Result<Option<String>> {
        self.meta_text(&keys::meta_table(schema_id, table_id)).await
    }

    /// The JSON of the database's model as of now; `None` if the cluster has no such database.
    pub async fn meta_database_json(&self, schema_id: i64) -> Result<Option<String>> {
        self.meta_text(&keys::meta_database(schema_id)).await
    }

    async fn meta_text(&self, key: &[u8]) -> Result<Option<String>> {
        let ts = self.pd.tso().await?;
        let Some(version) = self.get(key, ts).await? else {
            return Ok(None);
        };
        let text = String::from_utf8(version.value.to_vec());
        let text =
            text.map_err(|_| Error::new(ErrorKind::Cluster, "meta", "a table model is not text"));
        text.map(Some)
    }
}
