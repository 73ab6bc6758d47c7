//! Calls to agents that show their source files.

use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;
use thunderhead_cluster::Connector;
use thunderhead_net::Security;
use thunderhead_proto::thunderhead::{FileEntry, ListFiles, ReadFile, files_client::FilesClient};
use thunderhead_types::Result;
use tonic::Status;
use tonic::transport::Channel;

/// Of an answer: a page of names, or a part of a file.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// A part of a file comes within this, or from another agent. A list may take longer: as long as the agent answers pings.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// Connections to agents.
pub(super) struct AgentFiles {
    security: Security,
    channels: Mutex<HashMap<String, Channel>>,
}

impl AgentFiles {
    /// None yet; certificates are read for each.
    pub(super) fn new(security: Security) -> Self {
        Self {
            security,
            channels: Mutex::default(),
        }
    }

    fn client(&self, address: &str) -> Result<FilesClient<Channel>> {
        let known = self.channels.lock().get(address).cloned();
        let channel = match known {
            Some(channel) => channel,
            None => {
                let channel = Connector::new(&self.security)?
                    .endpoint(address)?
                    .connect_lazy();
                let mut channels = self.channels.lock();
                channels.insert(address.to_owned(), channel.clone());
                channel
            }
        };
        Ok(FilesClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// Everything below `root` that the agent shows.
    pub(super) async fn list(&self, address: &str, root: String) -> Result<Vec<FileEntry>, Status> {
        let mut client = self.client(address).map_err(unusable)?;
        let listed = async {
            let mut pages = client.list(ListFiles { root }).await?.into_inner();
            let mut files = Vec::new();
            while let Some(page) = pages.message().await? {
                files.extend(page.files);
            }
            Ok(files)
        };
        listed.await.inspect_err(|_| self.forget(address))
    }

    /// A part of a file; less where the file ends.
    pub(super) async fn read(&self, address: &str, part: ReadFile) -> Result<Bytes, Status> {
        let mut client = self.client(address).map_err(unusable)?;
        let read = tokio::time::timeout(READ_TIMEOUT, client.read(part)).await;
        let read = read.unwrap_or_else(|_| Err(Status::deadline_exceeded("it does not answer")));
        let read = read.inspect_err(|_| self.forget(address))?;
        Ok(read.into_inner().data)
    }

    /// A new connection reads the certificates again and looks the name up again.
    fn forget(&self, address: &str) {
        self.channels.lock().remove(address);
    }
}

fn unusable(error: thunderhead_types::Error) -> Status {
    Status::unavailable(error.to_string())
}
