"""What a person runs beside `dvc repro`: python -m commands.NAME. One line on every mistake, as stages."""
