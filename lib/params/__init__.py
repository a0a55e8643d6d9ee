"""What params.yaml may say: frozen models, one module a section, and checks between sections. Nothing is computed."""
