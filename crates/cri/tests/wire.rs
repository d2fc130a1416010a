//! Client and server on one socket: calls, streams, statuses.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use futures_util::StreamExt;
use wharf_cri::{Answer, Answers, Cri, Remote, v1};

struct Fake;

impl Cri for Fake {
    fn version(&self, request: v1::VersionRequest) -> Answer<'_, v1::VersionResponse> {
        Box::pin(async move {
            Ok(v1::VersionResponse {
                version: request.version,
                runtime_name: "fake".into(),
                ..Default::default()
            })
        })
    }

    fn image_status(&self, _: v1::ImageStatusRequest) -> Answer<'_, v1::ImageStatusResponse> {
        Box::pin(async { Err(tonic::Status::not_found("no such image")) })
    }

    fn get_container_events(
        &self,
        _: v1::GetEventsRequest,
    ) -> Answer<'_, Answers<v1::ContainerEventResponse>> {
        let events = ["a", "b"].map(|id| {
            Ok(v1::ContainerEventResponse {
                container_id: id.into(),
                ..Default::default()
            })
        });
        Box::pin(async { Ok(Box::pin(futures_util::stream::iter(events)) as Answers<_>) })
    }
}

#[tokio::test]
async fn calls_streams_and_statuses_cross_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cri.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let server = tokio::spawn(wharf_cri::serve(Arc::new(Fake), listener));
    let remote = Remote::new(&format!("unix://{}", path.display())).unwrap();

    let request = v1::VersionRequest {
        version: "v1".into(),
    };
    let version = remote.version(request).await.unwrap();
    assert_eq!((&*version.version, &*version.runtime_name), ("v1", "fake"));
    let status = remote.image_status(Default::default()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
    assert_eq!(status.message(), "no such image");
    let status = remote.status(Default::default()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unimplemented);
    let events = remote
        .get_container_events(Default::default())
        .await
        .unwrap();
    let ids: Vec<String> = events.map(|e| e.unwrap().container_id).collect().await;
    assert_eq!(ids, ["a", "b"]);
    server.abort();
}

#[test]
fn only_unix_sockets_are_spoken_to() {
    assert!(Remote::new("tcp://127.0.0.1:1").is_err());
}
