"""The `wan` backend: video-to-video with Wan 2.1 through diffsynth, one model in each worker."""
