"""The prober: real predictions to both deployments by name, in pairs, as evidence without a lag."""
