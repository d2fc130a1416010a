//! The list of every call of both services, from which trait, client and server are made.

/// Hands the list to the macro named: `unary` calls answer once, `stream` ones until they end.
macro_rules! with_rpcs {
    ($then:ident) => {
        $then! {
            runtime {
                unary version (VersionRequest) -> VersionResponse;
                unary run_pod_sandbox (RunPodSandboxRequest) -> RunPodSandboxResponse;
                unary stop_pod_sandbox (StopPodSandboxRequest) -> StopPodSandboxResponse;
                unary remove_pod_sandbox (RemovePodSandboxRequest) -> RemovePodSandboxResponse;
                unary pod_sandbox_status (PodSandboxStatusRequest) -> PodSandboxStatusResponse;
                unary list_pod_sandbox (ListPodSandboxRequest) -> ListPodSandboxResponse;
                stream stream_pod_sandboxes (StreamPodSandboxesRequest) -> StreamPodSandboxesResponse;
                unary create_container (CreateContainerRequest) -> CreateContainerResponse;
                unary start_container (StartContainerRequest) -> StartContainerResponse;
                unary stop_container (StopContainerRequest) -> StopContainerResponse;
                unary remove_container (RemoveContainerRequest) -> RemoveContainerResponse;
                unary list_containers (ListContainersRequest) -> ListContainersResponse;
                stream stream_containers (StreamContainersRequest) -> StreamContainersResponse;
                unary container_status (ContainerStatusRequest) -> ContainerStatusResponse;
                unary update_container_resources (UpdateContainerResourcesRequest) -> UpdateContainerResourcesResponse;
                unary reopen_container_log (ReopenContainerLogRequest) -> ReopenContainerLogResponse;
                unary exec_sync (ExecSyncRequest) -> ExecSyncResponse;
                unary exec (ExecRequest) -> ExecResponse;
                unary attach (AttachRequest) -> AttachResponse;
                unary port_forward (PortForwardRequest) -> PortForwardResponse;
                unary container_stats (ContainerStatsRequest) -> ContainerStatsResponse;
                unary list_container_stats (ListContainerStatsRequest) -> ListContainerStatsResponse;
                stream stream_container_stats (StreamContainerStatsRequest) -> StreamContainerStatsResponse;
                unary pod_sandbox_stats (PodSandboxStatsRequest) -> PodSandboxStatsResponse;
                unary list_pod_sandbox_stats (ListPodSandboxStatsRequest) -> ListPodSandboxStatsResponse;
                stream stream_pod_sandbox_stats (StreamPodSandboxStatsRequest) -> StreamPodSandboxStatsResponse;
                unary update_runtime_config (UpdateRuntimeConfigRequest) -> UpdateRuntimeConfigResponse;
                unary status (StatusRequest) -> StatusResponse;
                unary checkpoint_container (CheckpointContainerRequest) -> CheckpointContainerResponse;
                unary checkpoint_pod (CheckpointPodRequest) -> CheckpointPodResponse;
                unary restore_pod (RestorePodRequest) -> RestorePodResponse;
                stream get_container_events (GetEventsRequest) -> ContainerEventResponse;
                unary list_metric_descriptors (ListMetricDescriptorsRequest) -> ListMetricDescriptorsResponse;
                unary list_pod_sandbox_metrics (ListPodSandboxMetricsRequest) -> ListPodSandboxMetricsResponse;
                stream stream_pod_sandbox_metrics (StreamPodSandboxMetricsRequest) -> StreamPodSandboxMetricsResponse;
                unary runtime_config (RuntimeConfigRequest) -> RuntimeConfigResponse;
                unary update_pod_sandbox_resources (UpdatePodSandboxResourcesRequest) -> UpdatePodSandboxResourcesResponse;
            }
            image {
                unary list_images (ListImagesRequest) -> ListImagesResponse;
                stream stream_images (StreamImagesRequest) -> StreamImagesResponse;
                unary image_status (ImageStatusRequest) -> ImageStatusResponse;
                unary pull_image (PullImageRequest) -> PullImageResponse;
                unary remove_image (RemoveImageRequest) -> RemoveImageResponse;
                unary image_fs_info (ImageFsInfoRequest) -> ImageFsInfoResponse;
            }
        }
    };
}
pub(crate) use with_rpcs;
