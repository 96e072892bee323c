// AXI4-Stream register slice: full throughput, and ready is a register, so no path runs from one side to the other.
module axis_register #(
    parameter int unsigned WIDTH = 512
) (
    input  logic             clk,
    input  logic             reset,
    input  logic [WIDTH-1:0] in_data,
    input  logic             in_valid,
    output logic             in_ready,
    output logic [WIDTH-1:0] out_data,
    output logic             out_valid,
    input  logic             out_ready
);

  // Takes the word that arrives in the cycle in which the output turns out to be blocked.
  logic [WIDTH-1:0] spare;
  logic spare_valid;
  logic advance;

  assign advance = out_ready || !out_valid;

  always_ff @(posedge clk) begin
    if (reset) begin
      out_valid   <= 1'b0;
      spare_valid <= 1'b0;
      in_ready    <= 1'b0;
    end else if (advance) begin
      out_valid   <= spare_valid || (in_valid && in_ready);
      spare_valid <= 1'b0;
      in_ready    <= 1'b1;
    end else if (in_valid && in_ready) begin
      spare_valid <= 1'b1;
      in_ready    <= 1'b0;
    end
  end

  always_ff @(posedge clk) begin
    if (advance) out_data <= spare_valid ? spare : in_data;
    if (in_ready) spare <= in_data;
  end

`ifndef SYNTHESIS
  // AXI4-Stream, on both sides: what is offered stays until it is taken.
  logic in_held, out_held;
  logic [WIDTH-1:0] in_data_held, out_data_held;
  always_ff @(posedge clk) begin
    in_held <= !reset && in_valid && !in_ready;
    in_data_held <= in_data;
    out_held <= !reset && out_valid && !out_ready;
    out_data_held <= out_data;
    if (in_held && !reset) begin
      assert (in_valid) else $error("axis_register: valid fell before ready");
      assert (in_data == in_data_held) else $error("axis_register: data changed before ready");
    end
    if (out_held && !reset) begin
      assert (out_valid && out_data == out_data_held) else $error("axis_register: output changed before ready");
    end
  end
`endif

endmodule
