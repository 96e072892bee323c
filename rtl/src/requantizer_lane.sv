// Requantization of one token (docs/numerics.md): clamp(rs((sum + bias) * multiplier, shift), low, high).
//
// The sum has 33 bits and is multiplied in two DSPs, its 17 low bits first. The result stands Latency = 11 cycles after
// the sum; shift and limits are wanted later than the sum, in the cycles that their names tell.
module requantizer_lane (
    input  logic                                          clk,
    input  logic signed [engine_pkg::AccumulatorBits-1:0] sum,
    input  logic signed [                           31:0] bias,
    input  logic        [                           15:0] multiplier,
    input  logic        [                            5:0] shift_5,
    input  logic        [                            3:0] shift_6,
    input  logic        [                            1:0] shift_7,
    input  logic signed [                           15:0] low_10,
    input  logic signed [                           15:0] high_10,
    output logic signed [                           15:0] result
);

  if (bertile_pkg::LawMultiplierBits != 16 || bertile_pkg::LawShiftMax > 63) begin : g_law
    $error("the widths of this lane are not those of the law");
  end

  // Cycle 1: the sum. Cycle 4, 5: the product, in DSPs.
  logic signed [32:0] biased;
  logic [15:0] multiplier_1, multiplier_2;
  logic signed [15:0] biased_high;
  logic signed [47:0] product_low, product_high, cascade, unused;
  logic [16:0] product_low_held;

  always_ff @(posedge clk) begin
    biased <= 33'(sum) + 33'(bias);
    multiplier_1 <= multiplier;
    multiplier_2 <= multiplier_1;
    biased_high <= biased[32:17];
    product_low_held <= product_low[16:0];
  end

  dsp_mac #(
      .A_BITS(17),
      .B_BITS(18)
  ) low_product (
      .clk,
      .a({1'b0, multiplier_1}),
      .b({1'b0, biased[16:0]}),
      .p_in('0),
      .p(product_low),
      .p_out(cascade)
  );
  dsp_mac #(
      .A_BITS (17),
      .B_BITS (16),
      .CASCADE(1'b1),
      .SHIFT  (1'b1)
  ) high_product (
      .clk,
      .a({1'b0, multiplier_2}),
      .b(biased_high),
      .p_in(cascade),
      .p(product_high),
      .p_out(unused)
  );

  // One more bit below, for rounding; then the shift in three steps, 16s, 4s, ones.
  logic signed [49:0] product_5, shifted_6, shifted_7, shifted_8;
  assign product_5 = {product_high[31:0], product_low_held, 1'b0};

  logic fits;
  logic signed [17:0] narrow_9, rounded_10;
  assign fits = shifted_8[49:17] == '0 || shifted_8[49:17] == '1;

  always_ff @(posedge clk) begin
    shifted_6 <= product_5 >>> {shift_5[5:4], 4'd0};
    shifted_7 <= shifted_6 >>> {shift_6[3:2], 2'd0};
    shifted_8 <= shifted_7 >>> shift_7;
    // Halves go up: add the last bit that was shifted out. What does not fit is clamped anyway.
    narrow_9 <= fits ? shifted_8[17:0] : {shifted_8[49], {17{!shifted_8[49]}}};
    rounded_10 <= (narrow_9 >>> 1) + 18'(signed'({1'b0, narrow_9[0]}));
    if (rounded_10 < 18'(low_10)) result <= low_10;
    else if (rounded_10 > 18'(high_10)) result <= high_10;
    else result <= rounded_10[15:0];
  end

endmodule
