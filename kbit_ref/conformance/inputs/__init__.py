"""Numbers that tell implementations apart: `of_types` for data types, `of_schemes` for block formats."""
