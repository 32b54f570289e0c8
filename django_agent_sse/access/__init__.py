"""Access over time: guards are asked again on open streams, and streams end whose user may no longer have them."""
