"""A local Azure that the real SDKs talk to: one pure model of the cloud, and HTTPS faces around it."""
