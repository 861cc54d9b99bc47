"""Weakly supervised video anomaly detection: data, models, metrics and the stages that join them."""
