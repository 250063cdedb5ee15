"""Names of a condensed set's rows in results."""

UNIFORM = "decoded centroids (vae, uniform)"
SQRT = "decoded centroids (vae, sqrt)"
DENSITY = "decoded centroids (vae, density)"
MEDOIDS_UNIFORM = "medoids (medoid, uniform)"
MEDOIDS_SQRT = "medoids (medoid, sqrt)"
