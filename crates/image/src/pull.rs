//! Pull.
use crate::*;
impl Images {
    /// x
    pub async fn pull(
        &self,
        _reference: &Reference,
        _platform: Option<&str>,
        _credentials: Option<Credentials>,
        _progress: ProgressSink,
    ) -> Result<(Image, PullResult)> {
        let _ = &self.inner.registries.config;
        todo!()
    }
    /// x
    pub async fn remote_tags(
        &self,
        _reference: &Reference,
        _credentials: Option<Credentials>,
    ) -> Result<Vec<String>> {
        todo!()
    }
    /// x
    pub async fn login(&self, _server: &str, _credentials: Credentials) -> Result<()> {
        todo!()
    }
}
