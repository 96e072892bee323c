// Assertions of the RTL count from here on: the first values of registers without a reset mean nothing.
module assertion_guard (
    input logic clk
);

  logic [2:0] edges;

  initial begin
    edges = '0;
    $assertoff;
  end
  always_ff @(posedge clk) begin
    if (edges != '1) edges <= edges + 1'b1;
    if (edges == 3'd6) $asserton;
  end

endmodule
