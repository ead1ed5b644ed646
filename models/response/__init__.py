"""What customers will do: `p_open`, `p_convert`, and how much of it contact causes."""
